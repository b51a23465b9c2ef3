"""Files that are whole or absent, and work that is done once even if the process is killed."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pnil_tf.arrays import Arrays, read_sealed, write_arrays
from pnil_tf.contract.setting_text import setting_text, settings_text
from pnil_tf.errors import UserError, argument
from pnil_tf.evaluation.rows import Rows
from pnil_tf.files import (
    is_leftover,
    read_json,
    remove_leftovers,
    understood,
    write_record,
)

IDENTITY = "identity.json"
_BESIDE_PIECES = {IDENTITY, "results.json", "report.html", "shards"}
_OURS = b'"sha256"'  # every identity states its own checksum
# Other settings, or another number of images, make other images, too; not the other way round.
_SAYING_MOST = ("version", "settings")
_FINGERPRINTED = {
    "data": "images and classes",
    "model": "a model",
    "transfer_from": "a model to transfer from",
}

logger = logging.getLogger(__name__)


class Store:
    """The finished pieces of one evaluation, a file for each.

    A piece is a function of its name and of what the store was opened for: whether it was
    computed now or before a kill makes no difference.

    Args:
        folder: Where the pieces lie.
        identity: Everything that the pieces depend on, as JSON types.
        resume: Whether pieces of an earlier process count.
        shared: Whether the folder is that of a process which has opened the store already, and
            waits for pieces.

    Raises:
        UserError: If the folder holds pieces of an evaluation with another identity, or files of
            somebody else.
    """

    def __init__(
        self, folder: Path, identity: dict[str, Any], resume: bool, shared: bool = False
    ) -> None:
        self._folder = folder
        file = folder / IDENTITY
        identity = json.loads(json.dumps(identity))
        if shared:  # what looks left over there may be another's, who is writing it
            with understood(file):
                check_identity(read_json(file), identity, folder.parent)
            return
        refuse_foreign_state(folder)
        if resume and file.is_file():
            with understood(file):
                check_identity(read_json(file), identity, folder.parent)
        else:
            self.remove()
        folder.mkdir(parents=True, exist_ok=True)
        for place in (folder, folder.parent):
            remove_leftovers(place)
        write_record(file, identity)

    def once(self, name: str, compute: Callable[[], Arrays]) -> Arrays:
        """Returns the arrays that belong to `name`: those found, or else those computed."""
        found = self.found(name)
        if found is None:
            found = compute()
            write_arrays(self._file(name), found, sealed=True)
        return found

    def found(self, name: str) -> Arrays | None:
        """Returns the arrays that belong to `name`, if they are there and whole."""
        return _read_arrays(self._file(name))

    def holds(self, name: str) -> bool:
        """Whether the piece of this name is there, whole or damaged."""
        return self._file(name).is_file()

    def rows(self) -> Rows:
        """Returns a place for images that are put together batch by batch."""
        return Rows(self._folder)

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.npz"

    def remove(self) -> None:
        """Deletes all pieces; the evaluation has its results."""
        self.discard(self._folder)

    @staticmethod
    def discard(folder: Path) -> None:
        """Deletes the pieces in a folder, which is gone at once."""
        if folder.is_dir():
            # Half removed, they must not be taken for those of an evaluation that goes on.
            removed = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
            folder.rename(removed)
            shutil.rmtree(removed)


def identity_in(folder: Path) -> dict[str, Any] | None:
    """The identity of the pieces in a folder; `None` where there are none.

    Raises:
        UserError: If it is damaged.
    """
    file = folder / IDENTITY
    return read_json(file) if file.is_file() else None


def holds_pieces(folder: Path) -> bool:
    """Whether a folder holds pieces of an evaluation, which says so."""
    file = folder / IDENTITY
    return file.is_file() and _OURS in file.read_bytes()  # as text: it may be damaged


def foreign_entries(folder: Path) -> list[str]:
    """The names in a folder of pieces that no evaluation wrote: all, if it holds no pieces."""
    ours = holds_pieces(folder)
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if not is_leftover(entry.name)
        and not (ours and (entry.suffix == ".npz" or entry.name in _BESIDE_PIECES))
    )


def refuse_foreign_state(folder: Path) -> None:
    """Refuses a folder that holds something else than pieces of an evaluation.

    Raises:
        UserError: If so.
    """
    foreign = foreign_entries(folder) if folder.is_dir() else []
    if foreign:
        raise UserError(
            f"{str(folder)!r} is where an evaluation keeps its pieces, and holds files that no "
            f"evaluation wrote, such as {foreign[0]!r}. Move them, or choose another "
            f"{argument('output')}."
        )


def _read_arrays(file: Path) -> Arrays | None:
    try:
        return read_sealed(file)
    except FileNotFoundError:
        return None
    except ValueError as error:
        logger.warning("%s: this piece of the evaluation is done again.", error)
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
    keys = {**dict.fromkeys(_SAYING_MOST), **asked, **found}
    other = [key for key in keys if found.get(key) != asked.get(key)]
    if other:
        begun, received = _differing(other[0], found.get(other[0]), asked.get(other[0]))
        raise UserError(
            f"What {folder} holds cannot be resumed: it was begun with {begun}. Received: "
            f"{received}. Ask for the same, or for {argument('overwrite')}."
        )


def _differing(key: str, found: Any, asked: Any) -> tuple[str, str]:
    """An entry of two identities in words: as it was, and as it is asked for."""
    if key == "settings":
        names = [name for name in {**found, **asked} if found.get(name) != asked.get(name)]
        return settings_text(found, names), settings_text(asked, names)
    if key == "attacks":
        return _attacks_text(found, asked)
    if key in _FINGERPRINTED:
        return _mark_text(key, found), _mark_text(key, asked)
    if key == "labels":
        return ("labels", "no labels") if found else ("no labels", "labels")
    if key == "generator":
        return _generator_text(found), _generator_text(asked)
    if key == "version":
        return f"version {found} of pnil_tf", f"version {asked}"
    return setting_text(key, found), setting_text(key, asked)


def _attacks_text(
    found: dict[str, dict[str, Any]] | None, asked: dict[str, dict[str, Any]]
) -> tuple[str, str]:
    """The first attack that differs in words: as it was, and as it is asked for."""
    if found is None:
        return "attacks whose settings an earlier version did not note", "those of this version"
    name = next(name for name in {**found, **asked} if found.get(name) != asked.get(name))
    one, other = found.get(name), asked.get(name)
    if one is None or other is None:
        return (f"no {name}", name) if one is None else (name, f"no {name}")
    fields = [field for field in {**one, **other} if one.get(field) != other.get(field)]

    def text(settings: dict[str, Any]) -> str:
        return f"{name} with {', '.join(f'{field} {settings.get(field)}' for field in fields)}"

    return text(one), text(other)


def _generator_text(scheme: str | None) -> str:
    return f"noise by {scheme}" if scheme else "noise by the generator of an earlier version"


def _mark_text(key: str, mark: str | None) -> str:
    if not mark:
        return f"no {argument(key)}"
    words, colon, _ = mark.partition(": ")
    return words if colon else f"{_FINGERPRINTED[key]} of the fingerprint {mark[:12]}"
