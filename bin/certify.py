"""The command `certify` from a clone: python bin/certify.py --help."""

from pnil_tf import cli
from pnil_tf.commands import certify

if __name__ == "__main__":
    cli.run(certify.main, *certify.FLAGS)
