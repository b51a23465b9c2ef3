"""Trains a classifier to be robust.

For example: {program} --dataset=mnist --pnil
Or: {program} --dataset=mnist --recipe=best

The run's folder, runs/NAME, holds the kept classifier (classifier.keras), its settings, history,
pictures and result. The same command with --resume goes on after an interruption.
"""

from pnil_tf import flags
from pnil_tf.logs import import_tensorflow

FLAGS = ("recipe", "data", "model", "attack", "optimization", "device", "run")


def main() -> None:
    """Reads the flags, trains, prints the result."""
    settings = flags.train_settings()
    import_tensorflow()
    from pnil_tf.runs.train import train

    train(settings, given=flags.given())
