"""Files that are whole or absent, and work that is done once even if the process is killed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pnil_tf.errors import UserError
from pnil_tf.files import read_json, replacing, write_json

Arrays = dict[str, np.ndarray]

_IDENTITY = "identity.json"


class Store:
    """The finished pieces of one evaluation, a file for each.

    A piece is a function of its name and of what the store was opened for: whether it was
    computed now or before a kill makes no difference.

    Args:
        folder: Where the pieces lie.
        identity: Everything that the pieces depend on, as JSON types.
        resume: Whether pieces of an earlier process count.

    Raises:
        UserError: If the folder holds pieces of an evaluation with another identity.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], resume: bool) -> None:
        self._folder = folder
        file = folder / _IDENTITY
        identity = json.loads(json.dumps(identity))
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
        elif file.is_file():
            check_identity(read_json(file), identity, folder.parent)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(file, identity)

    def once(self, name: str, compute: Callable[[], Arrays]) -> Arrays:
        """Returns the arrays that belong to `name`: those found, or else those computed."""
        file = self._folder / f"{name}.npz"
        found = _read_arrays(file)
        if found is None:
            found = compute()
            write_arrays(file, found)
        return found

    def remove(self) -> None:
        """Deletes all pieces; the evaluation has its results."""
        shutil.rmtree(self._folder, ignore_errors=True)


def write_arrays(file: Path, arrays: Arrays) -> None:
    """Writes an `.npz` file without pickles, whole or not at all."""
    named: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
    if any(array.dtype.hasobject for array in named.values()):
        # Before NumPy 2.1 `savez` cannot be told to refuse them.
        raise ValueError(f"Objects would be pickled. Received: arrays {', '.join(named)}.")
    with replacing(file) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **named)


def sha256_of(path: Path) -> str:
    """The SHA-256 digest of a file, or of all files in a folder and their names."""
    digest = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        with file.open("rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def _read_arrays(file: Path) -> Arrays | None:
    if not file.is_file():
        return None
    # Damaged since it was written, it is made again. zipfile, zlib and NumPy have an error of
    # their own for every kind of damage.
    with contextlib.suppress(Exception), np.load(file, allow_pickle=False) as content:
        return dict(content)
    return None


def check_identity(found: dict[str, Any], asked: dict[str, Any], folder: Path) -> None:
    """Refuses to go on with another evaluation than the one that was begun.

    Args:
        found: The identity of the one in `folder`.
        asked: The identity of the one asked for.
        folder: Where the results belong.

    Raises:
        UserError: If they differ.
    """
    other = [key for key in asked if found.get(key) != asked[key]]
    if not other:
        return
    key = other[0]
    raise UserError(
        f"The evaluation in {folder} cannot be resumed: it was started with another {key}. "
        f"Received: {json.dumps(asked[key])}; it has {json.dumps(found.get(key))}. Use the same, "
        "or --overwrite."
    )
