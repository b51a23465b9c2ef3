"""A run that is to be replaced: put aside until the new one is whole, and back if it fails."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pnil_tf.errors import UserError
from pnil_tf.files import LOCK, lock_folder
from pnil_tf.runs.own_files import holds_nothing, is_own_run, remove_own_files


class Replaced:
    """The earlier run of a name, beside the folder of the new one.

    Whoever works on the new run keeps the earlier one locked, too.

    Args:
        path: The folder of the run.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._aside = path.with_name(f".{path.name}.replaced")
        self._discarded = path.with_name(f".{path.name}.discarded")
        self._locks: list[IO[str]] = []

    @property
    def exists(self) -> bool:
        """Whether an earlier run is put aside."""
        return self._aside.is_dir()

    def put_aside(self) -> None:
        """Takes the run out of the way. Its folder must be locked by this process.

        Raises:
            UserError: If another process evaluates in a folder within it.
        """
        for lock in sorted(self._path.rglob(LOCK)):
            if lock.parent != self._path:
                self._locks.append(lock_folder(lock.parent))
        self._path.rename(self._aside)

    def lock(self) -> None:
        """Keeps the earlier run for this process, if there is one."""
        if self.exists:
            self._locks.append(lock_folder(self._aside))

    def put_right(self, begun: bool, finished: bool) -> None:
        """Puts right what a killed process left; does nothing while another one is at work.

        Args:
            begun: Whether the new run got as far as to be continued.
            finished: Whether it is finished.
        """
        with self._free() as free:
            if free and finished:
                self.discard()
            elif free and not begun:
                self.put_back()
        if self._discarded.is_dir():
            self._empty_discarded()

    def put_back(self) -> None:
        """Puts the earlier run in its place again, over a new one that nothing is left of."""
        if not self.exists:
            return
        if self._path.exists():
            if not (holds_nothing(self._path) or is_own_run(self._path)):
                return
            remove_own_files(self._path)
            with contextlib.suppress(OSError):  # foreign files stay, and are in the way
                self._path.rmdir()
        if not self._path.exists():
            self._aside.rename(self._path)

    def put_back_beside(self, new: Path) -> None:
        """Puts the earlier run in its place again, and moves the new one elsewhere."""
        self._path.rename(new)
        self._aside.rename(self._path)

    def discard(self) -> None:
        """Removes the earlier run, since the new one is whole. Foreign files go to the new one."""
        if self.exists:
            # Half removed, it must not be taken for a whole one.
            self._aside.rename(self._discarded)
            self._empty_discarded()

    def _empty_discarded(self) -> None:
        remove_own_files(self._discarded)
        _move_into(self._discarded, self._path)

    @contextlib.contextmanager
    def _free(self) -> Iterator[bool]:
        """Whether there is an earlier run that nobody works with, kept meanwhile."""
        if not self.exists:
            yield False
            return
        try:
            lock = lock_folder(self._aside)
        except UserError:
            yield False
            return
        with lock:
            yield True


def _move_into(source: Path, target: Path) -> None:
    """Moves all that is in a folder to another one. Of two files of one name both stay."""
    for entry in sorted(source.iterdir()):
        place = target / entry.name
        if _is_real_folder(entry) and _is_real_folder(place):
            _move_into(entry, place)
        else:
            entry.rename(_free_name(place, "earlier") if os.path.lexists(place) else place)
    source.rmdir()


def _is_real_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def failed_name(path: Path) -> Path:
    """A free place beside a run's folder for what a failed training leaves."""
    return _free_name(path, "failed")


def _free_name(path: Path, word: str) -> Path:
    number = 1
    while os.path.lexists(
        new := path.with_name(f"{path.name}_{word}{number if number > 1 else ''}")
    ):
        number += 1
    return new
