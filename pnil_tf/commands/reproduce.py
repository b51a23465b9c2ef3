"""Reproduces the paper: {program} --study=table1 --budget=cpu.

Trains and evaluates a grid of classifiers, each cell in a folder of its own under --output, and
writes results.json and a report on what is there. The same command goes on after an interruption:
what is done stays done. Without --yes it asks before it begins.
"""

from pnil_tf import flags

FLAGS = ("study",)


def main() -> None:
    """Reads the flags, runs the study, says where its results are."""
    settings = flags.study_settings()
    from pnil_tf.study.grid import reproduce

    reproduce(settings)
    print(f"The results are in {settings.folder}")
