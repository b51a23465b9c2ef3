"""The version of pnil_tf, which setup.py reads without importing the package, and of the rest."""

import importlib.metadata
import platform

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """What a result depends on besides its settings: the versions that computed it, by name."""
    import keras
    import numpy as np
    import tensorflow as tf

    return {
        "pnil_tf": __version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "cleverhans": importlib.metadata.version("cleverhans"),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
