"""The command `export` from a clone: python bin/export.py --help."""

from pnil_tf import cli
from pnil_tf.commands import export

if __name__ == "__main__":
    cli.run(export.main, *export.FLAGS)
