"""The folder a run leaves: its files by name, and who may write them."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import IO, Any

from pnil_tf.errors import RunFailedError, UserError, argument
from pnil_tf.files import (
    LOCK,
    lock_folder,
    make_folder,
    read_json,
    refuse_file_in_the_way,
    refuse_odd_entries,
    remove_leftovers,
    replacing,
    sha256_of,
    write_record,
    write_text,
)
from pnil_tf.runs.names import CLASSIFIER, FLAGS, RUN
from pnil_tf.runs.own_files import holds_nothing, is_own_run, remove_own_files
from pnil_tf.runs.replacing import Replaced, failed_name
from pnil_tf.runs.settings import RunSettings

_STARTING, FINISHED = "starting", "finished"


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
        self.description = self.path / RUN
        self.flagfile = self.path / FLAGS
        self.history = self.path / "history.csv"
        self.checkpoints = self.path / "checkpoints"
        self.kept = self.checkpoints / "kept.keras"
        self.last = self.checkpoints / "last"
        self.classifier = self.path / CLASSIFIER
        self.tensorboard = self.path / "tensorboard"
        self._settings = settings
        self._locks: list[IO[str]] = []
        self._replaced = Replaced(self.path)
        refuse_file_in_the_way(argument("runs_dir"), settings.runs_dir)
        self._put_right()
        if not self.path.exists():
            return
        self._refuse_foreign()
        refuse_odd_entries(self.path)
        self._refuse_existing()

    def _put_right(self) -> None:
        """Puts right what an earlier process left that was killed while it replaced this run."""
        status = None
        if self.description.is_file():
            with contextlib.suppress(UserError):
                status = read_json(self.description).get("status")
        self._replaced.put_right(
            begun=self.description.exists() and status != _STARTING, finished=status == FINISHED
        )

    def _refuse_foreign(self) -> None:
        """Refuses a folder that may become no run's, since others wrote into it."""
        if not self.path.is_dir() or not (self.description.exists() or holds_nothing(self.path)):
            raise UserError(
                f"{str(self.path)!r} exists and holds no run (no {RUN}). "
                f"Choose another {argument('name')} or {argument('runs_dir')}."
            )
        replaces = self._settings.overwrite or not self.exists
        if replaces and not holds_nothing(self.path) and not is_own_run(self.path):
            raise UserError(
                f"The {RUN} in {str(self.path)!r} was not written by a training of ours, so "
                f"nothing there is replaced. Choose another {argument('name')} or "
                f"{argument('runs_dir')}."
            )

    def _refuse_existing(self) -> None:
        if self._settings.overwrite or self._settings.resume:
            return
        if self.exists:
            raise UserError(
                f"The run {str(self.path)!r} exists, and neither {argument('resume')} (go on with "
                f"it) nor {argument('overwrite')} (replace it) was given. Pass one, or choose "
                f"another {argument('name')}."
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
            raise UserError(f"{error} {self._train_again()}") from error

    def _train_again(self) -> str:
        return (
            "To train again with the same settings, give the command "
            f"train --flagfile={self.flagfile} --overwrite."
        )

    def write(self, record: dict[str, Any]) -> None:
        """Replaces `run.json`."""
        write_record(self.description, record)

    def begin(self, record: dict[str, Any], flagfile: str) -> None:
        """Makes the folder and its first files.

        An existing run, if it is to be replaced, is put aside until `keep_new` or `keep_old`.
        """
        make_folder(argument("runs_dir"), self.path)
        self.lock()
        self._refuse_existing()  # another process may have been faster
        if self.description.exists() and not self._replaced.exists and self._begun():
            self._replaced.put_aside()
            self.path.mkdir()
            self._locks.append(lock_folder(self.path))
        # Killed from here on, the folder holds no run yet, and says so.
        self.write({**record, "status": _STARTING})
        remove_own_files(self.path, keep=(LOCK, RUN))
        self.checkpoints.mkdir(exist_ok=True)  # with somebody's files in it, it was kept
        write_text(self.flagfile, flagfile)
        self.write(record)

    def _begun(self) -> bool:
        """Whether there is a run here that is worth keeping, if only a damaged one."""
        try:
            return self.exists
        except UserError:
            return True

    def keep_new(self) -> None:
        """Removes the run that was put aside: the new one is whole."""
        self._replaced.discard()

    def keep_old(self) -> Path | None:
        """Puts the run that was put aside in its place again: the new one failed.

        Returns:
            Where the new one is now; `None` if nothing was put aside, or nothing was reached.
        """
        if not self._replaced.exists:
            return None
        if self.read().get("status") == FINISHED:
            self.keep_new()
            return None
        if not self.kept.exists() and not any(self.last.glob("step-*.index")):
            self._replaced.put_back()
            return None
        new = failed_name(self.path)
        self._replaced.put_back_beside(new)
        return new

    def publish(self, kept: dict[str, Any]) -> None:
        """Makes the classifier that was kept the run's.

        Args:
            kept: What `KeepClassifier` says of it.

        Raises:
            RunFailedError: If its file is not as it was written.
        """
        with replacing(self.classifier) as temporary:
            try:
                shutil.copyfile(self.kept, temporary)
                found = sha256_of(temporary)
            except FileNotFoundError:
                found = "no file"
            if kept["sha256"] not in (None, found):
                raise RunFailedError(
                    f"The classifier of epoch {kept['epoch']}, {str(self.kept)!r}, was "
                    f"damaged since it was written: its checksum was {kept['sha256']} and is now "
                    f"{found}. {self._train_again()}"
                )

    def lock(self) -> None:
        """Keeps the folder for this process until it ends, however it ends.

        Raises:
            UserError: If another process writes here.
        """
        self._locks.append(lock_folder(self.path))
        self._replaced.lock()
        for folder in (self.path, self.checkpoints, self.last):
            remove_leftovers(folder)
