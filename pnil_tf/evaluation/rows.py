"""Images put together batch by batch: in memory, or in a file where they would fill it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import IO

import numpy as np

_MOST_BYTES = 2**24
"""Beyond this they lie in a file, from which the system reads what is looked at."""


class Rows:
    """Arrays that differ in their first dimension alone, one after the other.

    Args:
        folder: Where the file lies. It has no name, so nothing stays behind.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts: list[np.ndarray] = []
        self._bytes = 0
        self._file: IO[bytes] | None = None

    def add(self, part: np.ndarray) -> None:
        """Appends rows; all parts have one dtype."""
        self._bytes += part.nbytes
        self._parts.append(part)
        if self._file is None and self._bytes > _MOST_BYTES:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
        if self._file is not None:
            for each in self._parts:
                # Not through the array that is returned: a full disk would end the process there.
                self._file.write(np.ascontiguousarray(each).data)
            self._parts = [part[:0]]

    def together(self) -> np.ndarray:
        """Returns all rows, to be read alone; at least one part has been added."""
        if self._file is None:
            return np.concatenate(self._parts)
        [like] = self._parts
        self._file.flush()
        shape = (-1, *like.shape[1:])
        return np.memmap(self._file, like.dtype, "r").reshape(shape)
