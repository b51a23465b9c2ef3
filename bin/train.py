"""Trains a classifier to be robust.

For example: python bin/train.py --dataset=mnist --pnil

The run's folder, runs/NAME, holds the kept classifier (classifier.keras), its settings, history,
pictures and result. The same command with --resume goes on after an interruption.
"""

from pnil_tf import cli, flags


def main() -> None:
    """Reads the flags, trains, prints the result."""
    settings = flags.train_settings()
    from pnil_tf.runs.train import train

    train(settings, given=flags.given())


if __name__ == "__main__":
    cli.run(main, "data", "model", "attack", "optimization", "device", "run")
