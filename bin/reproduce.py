"""The command `reproduce` from a clone: python bin/reproduce.py --help."""

from pnil_tf import cli
from pnil_tf.commands import reproduce

if __name__ == "__main__":
    cli.run(reproduce.main, *reproduce.FLAGS)
