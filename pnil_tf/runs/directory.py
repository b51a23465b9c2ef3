"""The folder a run leaves: its files by name, and who may write them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from pnil_tf.errors import RunFailedError, UserError
from pnil_tf.files import (
    LOCK,
    lock_folder,
    read_json,
    refuse_file_in_the_way,
    refuse_odd_entries,
    remove_leftovers,
    replacing,
    sha256_of,
    write_record,
    write_text,
)
from pnil_tf.training.settings import RunSettings

_MARKER = "run.json"
_STARTING = "starting"


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
        self.description = self.path / _MARKER
        self.flagfile = self.path / "flags.cfg"
        self.history = self.path / "history.csv"
        self.checkpoints = self.path / "checkpoints"
        self.best = self.checkpoints / "best.keras"
        self.last = self.checkpoints / "last"
        self.classifier = self.path / "classifier.keras"
        self.tensorboard = self.path / "tensorboard"
        self._settings = settings
        refuse_file_in_the_way("runs_dir", settings.runs_dir)
        if not self.path.exists():
            return
        if not self.path.is_dir() or (
            not self.description.exists() and set(self.path.iterdir()) - {self.path / LOCK}
        ):
            raise UserError(
                f"{str(self.path)!r} exists and holds no run (no {_MARKER}). Choose another --name "
                "or --runs_dir."
            )
        refuse_odd_entries(self.path)
        self._refuse_existing()

    def _refuse_existing(self) -> None:
        if self._settings.overwrite or self._settings.resume:
            return
        if self.exists:
            raise UserError(
                f"The run {str(self.path)!r} exists, and neither --resume (go on with it) nor "
                "--overwrite (replace it) was given. Pass one, or choose another --name."
            )

    @property
    def exists(self) -> bool:
        """Whether a run was begun here, and got as far as to be continued."""
        return self.description.exists() and self.read().get("status") != _STARTING

    def read(self) -> dict[str, Any]:
        """Returns what `run.json` says."""
        try:
            return read_json(self.description)
        except UserError as error:
            raise UserError(
                f"{error} To train again with the same settings: --flagfile={self.flagfile} "
                "--overwrite."
            ) from error

    def write(self, record: dict[str, Any]) -> None:
        """Replaces `run.json`."""
        write_record(self.description, record)

    def begin(self, record: dict[str, Any], flagfile: str) -> None:
        """Makes the folder and its first files; an existing run is replaced if that is asked."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.lock()
        self._refuse_existing()  # another process may have been faster
        # Killed from here on, the folder is neither the old run nor yet the new one, and says so.
        self.write({**record, "status": _STARTING})
        for entry in self.path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name not in (LOCK, _MARKER):
                entry.unlink()
        self.checkpoints.mkdir()
        write_text(self.flagfile, flagfile)
        self.write(record)

    def publish(self, kept: dict[str, Any]) -> None:
        """Makes the best classifier so far the run's.

        Args:
            kept: What `KeepBest` says of it.

        Raises:
            RunFailedError: If its file is not as it was written.
        """
        with replacing(self.classifier) as temporary:
            try:
                shutil.copyfile(self.best, temporary)
                found = sha256_of(temporary)
            except FileNotFoundError:
                found = "no file"
            if kept["sha256"] not in (None, found):
                raise RunFailedError(
                    f"The best classifier, {str(self.best)!r} of epoch {kept['epoch']}, was "
                    f"damaged since it was written: its checksum was {kept['sha256']} and is now "
                    f"{found}. To train again: --flagfile={self.flagfile} --overwrite."
                )

    def lock(self) -> None:
        """Keeps the folder for this process until it ends, however it ends.

        Raises:
            UserError: If another process writes here.
        """
        self._lock = lock_folder(self.path)
        for folder in (self.path, self.checkpoints, self.last):
            remove_leftovers(folder)
