"""Which files of a run's folder we wrote. No others are ever deleted."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path

from pnil_tf.certificate import output as certificate
from pnil_tf.errors import UserError
from pnil_tf.evaluation import output as evaluation
from pnil_tf.evaluation.store import foreign_entries
from pnil_tf.files import LOCK, is_leftover, read_json
from pnil_tf.runs.names import CERTIFICATE, CLASSIFIER, EVALUATION, FLAGS, RUN

FLAGS_BEGIN = "# python bin/train.py --flagfile="
"""How the file of flags of every run begins."""

_FILES = {
    *(RUN, FLAGS, "history.csv", CLASSIFIER, LOCK, "learning_curves.png"),
    *("pnil_maps.png", "lr_range.csv", "lr_range.png"),
}
_TREES = {
    "checkpoints": re.compile(
        r"kept\.keras|guard_best\.npz|last/(checkpoint|step-\d+\.(index|data-\d+-of-\d+))"
    ),
    "tensorboard": re.compile(r"(train|validation)/events\.out\.tfevents\..+"),
}
"""Folders of a run, and the files in them by their place there."""
_FINDINGS = {
    EVALUATION: (
        {
            *(evaluation.RESULTS, evaluation.ARRAYS, evaluation.ADVERSARIAL, evaluation.REPORT),
            LOCK,
        },
        evaluation.STATE,
    ),
    CERTIFICATE: (
        {certificate.RESULTS, certificate.ARRAYS, certificate.REPORT, LOCK},
        certificate.STATE,
    ),
}
"""What was found out about the run's classifier: a folder, its files, and its folder of pieces."""


def is_own_run(folder: Path) -> bool:
    """Whether a folder holds a run of ours: by its description or, if damaged, by its flags."""
    try:
        versions = read_json(folder / RUN).get("versions")
        if isinstance(versions, dict) and "pnil_tf" in versions:
            return True
    except UserError:
        pass
    if not (folder / FLAGS).is_file():  # a pipe would be waited for
        return False
    try:
        with open(folder / FLAGS, encoding="utf-8") as file:
            return file.read(len(FLAGS_BEGIN)) == FLAGS_BEGIN
    except (OSError, UnicodeDecodeError):
        return False


def holds_nothing(folder: Path) -> bool:
    """Whether there is nothing in a folder but what a process leaves that is killed at once."""
    return all(_is_empty_lock(entry) or is_leftover(entry.name) for entry in folder.iterdir())


def _is_empty_lock(entry: Path) -> bool:
    return entry.name == LOCK and entry.is_file() and not entry.stat().st_size


def remove_own_files(folder: Path, keep: tuple[str, ...] = ()) -> None:
    """Removes what a run wrote into its folder, the description last.

    Args:
        folder: The folder of a run of ours.
        keep: Names of entries that stay.
    """
    for name, (files, pieces) in _FINDINGS.items():
        place = folder / name
        if _is_own_state(place / pieces):
            shutil.rmtree(place / pieces)
        _remove(place, files)
        if place.is_dir() and not place.is_symlink() and not any(place.iterdir()):
            place.rmdir()
    for name, written in _TREES.items():
        _remove_tree(folder / name, written)
    _remove(folder, _FILES - set(keep))


def _is_own_state(folder: Path) -> bool:
    linked = folder.is_symlink() or folder.parent.is_symlink()
    return folder.is_dir() and not linked and not foreign_entries(folder)


def _remove_tree(top: Path, written: re.Pattern[str]) -> None:
    """Removes files by their place below a folder, and what folders are empty then."""
    if top.is_symlink():
        return
    for place, _, files in os.walk(top, topdown=False):  # it follows no links
        folder = Path(place)
        for name in sorted(files):
            file = folder / name
            ours = written.fullmatch(file.relative_to(top).as_posix()) or is_leftover(name)
            if ours and not file.is_symlink():
                file.unlink()
        for entry in sorted(folder.iterdir()):
            if is_leftover(entry.name) and entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)  # TensorFlow's, half a checkpoint
        with contextlib.suppress(OSError):
            folder.rmdir()


def _remove(folder: Path, files: set[str]) -> None:
    if folder.is_symlink() or not folder.is_dir():
        return
    for entry in sorted(folder.iterdir(), key=lambda entry: (entry.name in (RUN, LOCK), entry)):
        ours = entry.name in files or is_leftover(entry.name)
        if ours and entry.is_file() and not entry.is_symlink():
            entry.unlink()
