"""The version of pnil_tf, which setup.py reads without importing the package."""

__version__ = "0.1.0"
