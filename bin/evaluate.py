"""Says whether a classifier is robust, and whether that is real: bin/evaluate.py --model=runs/NAME.

The model may also be a .keras file or a SavedModel (then say --dataset, --epsilon and --output).
Leaves results.json, arrays.npz and report.html in --output, runs/NAME/evaluation by default. The
same command with --resume goes on after an interruption.
"""

from pnil_tf import cli, flags
from pnil_tf.evaluation.flag_definitions import define_evaluation_flags, evaluation_flags

_DATA_FLAGS = ("dataset", "data_dir", "data_source", "image_size")


def main() -> None:
    """Reads the flags, evaluates, prints the verdict."""
    asked = evaluation_flags()
    data = {name: value for name, value in flags.given().items() if name in _DATA_FLAGS}
    from pnil_tf.evaluation.command import evaluate_saved

    results = evaluate_saved(
        asked.model,
        epsilon=asked.epsilon,
        output=asked.output,
        resume=asked.resume,
        overwrite=asked.overwrite,
        data=data,
        options=asked.options,
    )
    print(results["verdict_reason"])


if __name__ == "__main__":
    define_evaluation_flags()
    cli.run(main, "data")
