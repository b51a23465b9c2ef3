"""Says whether a classifier is robust, and whether that is real: {program} --model=runs/NAME.

The model may also be a .keras file or a SavedModel: then say --dataset, --epsilon and --output,
which for a run are its own. Leaves results.json, arrays.npz and report.html in --output,
runs/NAME/evaluation by default. The same command with --resume goes on after an interruption.
"""

from pnil_tf import flags
from pnil_tf.logs import import_tensorflow

FLAGS = ("evaluation", "data")


def main() -> None:
    """Reads the flags, evaluates, prints the verdict and, beside a certificate, both sides."""
    arguments = flags.evaluation_arguments()
    import_tensorflow()
    from pnil_tf.evaluation.beside import sentence
    from pnil_tf.runs.evaluate import evaluate_saved

    results = evaluate_saved(**arguments)
    print(results["verdict_reason"])
    if "both_sides" in results:
        print(sentence(results["both_sides"]))
