"""What the files and folders in a run's folder are called. Imports no TensorFlow."""

from __future__ import annotations

RUN = "run.json"
"""The run's description of itself, which makes a folder a run."""

FLAGS = "flags.cfg"
"""The flags that train the same run again."""

CLASSIFIER = "classifier.keras"
"""The trained classifier."""

EVALUATION = "evaluation"
"""The folder of what attacks left of the classifier."""

CERTIFICATE = "certificate"
"""The folder of what is proved of it."""
