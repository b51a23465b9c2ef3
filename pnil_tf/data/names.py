"""What a data set may be called, and where prepared ones may lie. Imports no TensorFlow."""

from __future__ import annotations

import difflib
import functools
import os
import re
from pathlib import Path

from pnil_tf.data.settings import FOLDER_PREFIX, NPZ_PREFIX, DataSettings
from pnil_tf.errors import UserError

NAME = re.compile(r"\w+(/[\w.-]+)?(:\d+\.\d+\.\d+)?", re.ASCII)

_DEFAULT_DIR = "~/tensorflow_datasets"


def data_dirs(data_dir: str | None) -> list[Path]:
    """Where prepared data sets may lie, in the order of the search."""
    places = [data_dir, os.environ.get("TFDS_DATA_DIR"), _DEFAULT_DIR]
    return [Path(place).expanduser() for place in places if place]


def check_spelling(settings: DataSettings) -> None:
    """Refuse a misspelt name while that costs no import of TensorFlow.

    Raises:
        UserError: if nothing of this name was prepared and TensorFlow Datasets does not know it.
    """
    if settings.folder is not None or settings.npz is not None:
        return
    if NAME.fullmatch(settings.dataset):
        base = re.split("[/:]", settings.dataset)[0]
        if any((place / base).is_dir() for place in data_dirs(settings.data_dir)):
            return
    check_known(settings.dataset)


def check_known(name: str) -> None:
    """Refuse a name that TensorFlow Datasets does not know; never asks the network.

    Raises:
        UserError: with what was probably meant.
    """
    known = _known()
    base = re.split("[/:]", name)[0]
    if NAME.fullmatch(name) and base in known:
        return
    meant = _meant(name, base, known)
    hint = f"Did you mean {meant!r}? " if meant else ""
    raise UserError(
        f"The data set's name is not valid: {name!r}. {hint}Give the name of a TensorFlow Datasets "
        f"image classification set, {FOLDER_PREFIX}PATH for images of your own in class folders, "
        f"or {NPZ_PREFIX}FILE for arrays."
    )


@functools.cache
def _known() -> tuple[str, ...]:
    import tensorflow_datasets as tfds

    # The community's sets are listed on the network, which may not be there.
    return tuple(tfds.list_builders(with_community_datasets=False))


def _meant(name: str, base: str, known: tuple[str, ...]) -> str | None:
    prefix, colon, path = name.partition(":")
    prefixes = [FOLDER_PREFIX[:-1], NPZ_PREFIX[:-1]]
    if colon and (near := difflib.get_close_matches(prefix.lower(), prefixes, n=1)):
        return f"{near[0]}:{path}"
    if name.endswith(".npz"):
        return f"{NPZ_PREFIX}{name}"
    if Path(name).expanduser().is_dir():
        return f"{FOLDER_PREFIX}{name}"
    near = difflib.get_close_matches(re.sub(r"\W+", "_", base.lower()), known, n=1)
    return near[0] if near else None
