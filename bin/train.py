"""The command `train` from a clone: python bin/train.py --help."""

from pnil_tf import cli
from pnil_tf.commands import train

if __name__ == "__main__":
    cli.run(train.main, *train.FLAGS)
