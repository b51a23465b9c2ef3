"""The folder a run leaves: its files by name, and who may write them."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path
from typing import Any

from pnil_tf.errors import UserError
from pnil_tf.files import read_json, write_json, write_text
from pnil_tf.training.settings import RunSettings

_MARKER = "run.json"


class RunDirectory:
    """One run's folder, `runs_dir/name`.

    Args:
        settings: Its place, and whether an existing one is continued or replaced.

    Raises:
        UserError: If the folder holds a run that is neither to be continued nor to be replaced,
            or something that is no run.
    """

    def __init__(self, settings: RunSettings) -> None:
        self.path = Path(settings.runs_dir) / str(settings.name)
        self.flagfile = self.path / "flags.cfg"
        self.history = self.path / "history.csv"
        self.checkpoints = self.path / "checkpoints"
        self.best = self.checkpoints / "best.keras"
        self.last = self.checkpoints / "last"
        self.classifier = self.path / "classifier.keras"
        self.tensorboard = self.path / "tensorboard"
        self._settings = settings
        if not self.path.exists():
            return
        if not (self.path / _MARKER).exists() and (
            not self.path.is_dir() or any(self.path.iterdir())
        ):
            raise UserError(
                f"{str(self.path)!r} exists and is no training run. Received: it as the run's "
                "folder. Choose another --name or --runs_dir."
            )
        if self.exists and not (settings.resume or settings.overwrite):
            raise UserError(
                f"The run {str(self.path)!r} exists. Received: neither --resume (go on with it) "
                "nor --overwrite (replace it). Pass one, or choose another --name."
            )

    @property
    def exists(self) -> bool:
        """Whether a run was begun here."""
        return (self.path / _MARKER).exists()

    def read(self) -> dict[str, Any]:
        """Returns what `run.json` says."""
        return read_json(self.path / _MARKER)

    def write(self, record: dict[str, Any]) -> None:
        """Replaces `run.json`."""
        write_json(self.path / _MARKER, record)

    def begin(self, record: dict[str, Any], flagfile: str) -> None:
        """Makes the folder and its first files; an existing run is replaced if that is asked."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.lock()
        if self.exists and self._settings.overwrite:
            (self.path / _MARKER).unlink()  # from here on it is no run, until the new one stands
            for entry in self.path.iterdir():
                if entry.is_dir():
                    shutil.rmtree(entry)
                elif entry.name != _LOCK:
                    entry.unlink()
        self.checkpoints.mkdir(exist_ok=True)
        write_text(self.flagfile, flagfile)
        self.write(record)

    def lock(self) -> None:
        """Keeps the folder for this process until it ends, however it ends.

        Raises:
            UserError: If another process writes here.
        """
        self._lock = open(self.path / _LOCK, "w")  # noqa: SIM115 - open as long as the run is
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"Another process works in {str(self.path)!r}. Received: the same run again. Wait "
                "for it to end, or choose another --name."
            ) from error


_LOCK = ".lock"
