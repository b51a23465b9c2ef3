"""pnil_tf: image classifiers made robust fast, and an honest word on how robust they are."""

__version__ = "0.1.0"
