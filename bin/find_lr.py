"""The command `find_lr` from a clone: python bin/find_lr.py --help."""

from pnil_tf import cli
from pnil_tf.commands import find_lr

if __name__ == "__main__":
    cli.run(find_lr.main, *find_lr.FLAGS)
