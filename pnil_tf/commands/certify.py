"""Proves how robust a classifier with noise in front is, at least: {program} --model=runs/NAME.

The model may also be a .keras file: then say --dataset, --epsilon and --output, which for a run
are its own. Leaves certificate.json, certificate.npz and certificate.html in --output,
runs/NAME/certificate by default, and puts the run's evaluation beside it where it fits, or those
that --evaluation names, each at its own epsilon. The same command with --resume goes on after an
interruption.
"""

from pnil_tf import flags
from pnil_tf.logs import import_tensorflow

FLAGS = ("certificate", "data")


def main() -> None:
    """Reads the flags, certifies, prints the table."""
    arguments = flags.certificate_arguments()
    import_tensorflow()
    from pnil_tf.runs.certify import certify_saved

    print(certify_saved(**arguments))
