"""Finds bounds for the learning rate.

For example: python bin/find_lr.py --dataset=mnist --pnil

Runs an LR range test (Smith 2017) of the training that the other flags describe, and writes the
curve to runs/NAME_lr_range/ as lr_range.csv and lr_range.png. Nothing is trained for keeps.
"""

from pnil_tf import cli, flags


def main() -> None:
    """Reads the flags, runs the test, prints the suggested bounds."""
    settings = flags.train_settings()
    from pnil_tf.runs.train import find_learning_rate

    found, directory = find_learning_rate(settings)
    print(f"--min_lr={found.suggested_min:.4g} --max_lr={found.suggested_max:.4g}")
    print(f"The curve is in {directory}")


if __name__ == "__main__":
    cli.run(main, "data", "model", "attack", "optimization", "device", "run")
