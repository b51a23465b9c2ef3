"""Finds bounds for the learning rate.

For example: {program} --dataset=mnist --pnil

Runs an LR range test (Smith 2017) of the training that the other flags describe, and writes the
curve to runs/NAME_lr_range/ as lr_range.csv and lr_range.png. Nothing is trained for keeps.
"""

from pnil_tf import flags
from pnil_tf.logs import import_tensorflow

FLAGS = ("recipe", "data", "model", "attack", "optimization", "device", "run")


def main() -> None:
    """Reads the flags, runs the test, prints the suggested bounds."""
    settings = flags.train_settings()
    import_tensorflow()
    from pnil_tf.runs.learning_rate import find_learning_rate

    found, directory = find_learning_rate(settings)
    print(f"--min_lr={found.suggested_min:.4g} --max_lr={found.suggested_max:.4g}")
    print(f"The curve is in {directory}")
