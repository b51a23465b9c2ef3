"""The command `evaluate` from a clone: python bin/evaluate.py --help."""

from pnil_tf import cli
from pnil_tf.commands import evaluate

if __name__ == "__main__":
    cli.run(evaluate.main, *evaluate.FLAGS)
