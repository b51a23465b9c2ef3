"""Results in a folder, as Python holds them: opened, handed on, and written elsewhere."""

from __future__ import annotations

import abc
import dataclasses
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from pnil_tf.errors import UserError
from pnil_tf.evaluation.output import PLACE, check_files
from pnil_tf.files import make_folder, read_json, refuse_file_in_the_way, replacing, understood

ASaved = TypeVar("ASaved", bound="SavedResults")


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class SavedResults(abc.ABC):
    """What has been found out about a model, with the folder of its files.

    Args:
        folder: Where its files lie.
        results: The content of its record.
        keeper: What deletes the folder when nobody holds this any more.
    """

    folder: Path
    results: dict[str, Any]
    keeper: tempfile.TemporaryDirectory[str] | None = None

    _what: ClassVar[tuple[str, str]]
    """What it is, without and with its article."""
    _files: ClassVar[tuple[str, ...]]
    """Names of all its files. The arrays come first; the record comes last: it names the others."""

    @staticmethod
    @abc.abstractmethod
    def _refuse_foreign(folder: Path) -> None:
        """Refuses a folder in which these files would take the place of somebody else's."""

    @classmethod
    def load(cls: type[ASaved], folder: str | Path) -> ASaved:
        """Opens what `save`, or the command, has left in a folder.

        Raises:
            UserError: If the folder holds nothing of the kind, or something damaged.
        """
        folder, record = Path(folder), cls._files[-1]
        if not (folder / record).is_file():
            raise UserError(f"{folder} holds no {cls._what[0]}: there is no {record} in it.")
        results = read_json(folder / record)
        with understood(folder / record):
            check_files(folder, results)
        return cls(folder, results)

    def to_dict(self) -> dict[str, Any]:
        """The content of the record: figures, settings, versions and more; JSON types."""
        return dict(self.results)

    @functools.cached_property
    def recorded(self) -> dict[str, np.ndarray]:
        """The arrays as their file has them: images that were sorted by class are mixed there.

        Its `place` says which of the images given each of them is.
        """
        file = self.folder / self._files[0]
        with understood(file), np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)

    @property
    def places(self) -> np.ndarray:
        """Which of the images given these results are about, int `(n,)`, increasing.

        Of files that an earlier version wrote, it is not known where images were sorted by class:
        they count as the first ones, in the order of the files.
        """
        return np.sort(self._recorded_places)

    @property
    def _recorded_places(self) -> np.ndarray:
        arrays = self.recorded
        if PLACE in arrays:
            return arrays[PLACE]
        return np.arange(len(next(iter(arrays.values()))))  # what an earlier version wrote

    def _in_order(self, values: np.ndarray) -> np.ndarray:
        """Values of the images as recorded, or of the first of them, in the order of `places`."""
        return values[np.argsort(self._recorded_places[: len(values)])]

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Writes all files: the record, its arrays and the report.

        Args:
            folder: Where to; it is made if it does not exist.
            overwrite: Whether to replace what is there of the same kind.

        Raises:
            UserError: If there is something, and it is not to be replaced; or for an empty name.
        """
        if not str(folder):  # Path would take it for the current folder
            raise UserError(
                f"A folder needs a name to save {self._what[1]} to it. Received: {str(folder)!r}. "
                "Pass a name, or '.' for the current folder."
            )
        folder = Path(folder)
        refuse_file_in_the_way("The place to save to", str(folder))
        if (folder / self._files[-1]).exists() and not overwrite:
            raise UserError(
                f"{folder} holds {self._what[1]}. Choose another folder, or replace it with "
                "overwrite=True."
            )
        self._refuse_foreign(folder)
        make_folder("folder", folder)
        for name in self._files:
            if (self.folder / name).is_file():
                with replacing(folder / name) as temporary:
                    shutil.copyfile(self.folder / name, temporary)
            else:
                (folder / name).unlink(missing_ok=True)
