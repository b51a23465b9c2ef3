"""What happens beside the steps of a training: history, checkpoints, progress."""

from __future__ import annotations

import csv
import math
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Protocol

import keras
from numpy.typing import ArrayLike

from pnil_tf.errors import RunFailedError
from pnil_tf.files import replacing
from pnil_tf.progress import Progress
from pnil_tf.signals import unwind
from pnil_tf.training.checkpoints import TrainingCheckpoints
from pnil_tf.training.types import EpochLogs, State

_SECONDS_TO_VALIDATE = 5.0


class Stateful(Protocol):
    """A callback that a resumed training hands what it knew."""

    def get_state(self) -> State:
        """What it needs to go on."""

    def set_state(self, state: State) -> None:
        """Goes on from `get_state`."""


class InvalidLossError(RunFailedError):
    """A training whose loss is no longer a number."""


class StopOnInvalidLoss(keras.callbacks.Callback):
    """Ends a training whose loss is no longer a number, before it is saved."""

    def on_train_batch_end(self, batch: int, logs: EpochLogs = None) -> None:
        """Raises `InvalidLossError` if the epoch's mean loss is NaN or infinite."""
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            step = int(self.model.steps_taken.numpy())
            raise InvalidLossError(f"The loss is {loss} at step {step}.")


class HistoryFile(keras.callbacks.Callback):
    """Writes the logs of all epochs to a CSV file, whole at every epoch.

    Args:
        path: The file.
        write: Whether this process writes files.
    """

    def __init__(self, path: Path, write: bool = True) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []
        self._path, self._write = path, write
        self._before = 0.0  # seconds an interrupted run has spent in the current epoch

    def on_epoch_begin(self, epoch: int, logs: EpochLogs = None) -> None:
        """Starts the epoch's clock."""
        self._start = time.monotonic() - self._before
        self._before = 0.0

    def on_epoch_end(self, epoch: int, logs: EpochLogs = None) -> None:
        """Adds the epoch's row."""
        rate = self.model.optimizer.learning_rate
        row = {"epoch": epoch + 1, **{name: float(value) for name, value in (logs or {}).items()}}
        row["learning_rate"] = float(keras.ops.convert_to_numpy(rate))
        row["seconds"] = round(time.monotonic() - self._start, 3)
        self.rows.append(row)
        if not self._write:
            return
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        with (
            replacing(self._path) as temporary,
            open(temporary, "w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.rows)

    def get_state(self) -> State:
        """The rows so far, and the seconds spent in the current epoch."""
        return {"rows": self.rows, "seconds": time.monotonic() - self._start}

    def set_state(self, state: State) -> None:
        """Goes on from `get_state`."""
        self.rows, self._before = state["rows"], state["seconds"]


class SaveState(keras.callbacks.Callback):
    """Saves checkpoints within epochs and after each, with the state of other callbacks.

    It must stand after the callbacks whose state it saves. On SIGTERM and Ctrl-C it saves a last
    one at the end of the current step, or validation, and leaves with `SystemExit` (143 or 130).

    Args:
        checkpoints: Where to save.
        stateful: Callbacks with `get_state` and `set_state`, by name.
        metrics: Metrics whose running value belongs to the epoch.
        steps_per_epoch: Steps in a whole epoch.
        every_steps: Steps between checkpoints within an epoch.
        write: Whether this process writes files.
    """

    def __init__(
        self,
        checkpoints: TrainingCheckpoints,
        stateful: Mapping[str, Stateful],
        metrics: list[keras.metrics.Metric],
        steps_per_epoch: int,
        every_steps: int,
        write: bool = True,
    ) -> None:
        super().__init__()
        self._checkpoints, self._stateful, self._metrics = checkpoints, stateful, metrics
        self._steps_per_epoch, self._every, self._write = steps_per_epoch, every_steps, write
        self._restored_metrics: list[list[ArrayLike]] | None = None
        self._signal: int | None = None
        self._noted = 0.0

    def restore(self) -> tuple[int, bool]:
        """Restores the newest whole checkpoint.

        Returns:
            The number of steps it had done, and whether a callback had ended the training.
        """
        state = self._checkpoints.restore()
        if state is None:
            return 0, False
        for name, callback in self._stateful.items():
            callback.set_state(state[name])
        self._restored_metrics = state["metrics"]
        return state["step"], state["stopped"]

    def on_train_begin(self, logs: EpochLogs = None) -> None:
        """Starts to listen for the signals that end a process."""
        self._handlers = {
            number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)
        }

    def on_train_end(self, logs: EpochLogs = None) -> None:
        """Hands the signals back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:  # asked twice: leave at once
            unwind(number, frame)
        self._signal, self._noted = number, time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: EpochLogs = None) -> None:
        """Continues the running means of an epoch that was interrupted."""
        if self._restored_metrics is not None:
            for metric, values in zip(self._metrics, self._restored_metrics, strict=True):
                for variable, value in zip(metric.variables, values, strict=True):
                    variable.assign(value)
            self._restored_metrics = None

    def on_train_batch_end(self, batch: int, logs: EpochLogs = None) -> None:
        """Saves a checkpoint when one is due."""
        if self._signal is not None:
            self._save()
            raise SystemExit(128 + self._signal)
        step = self._step()
        # The last step of an epoch is saved after its validation.
        if step % self._steps_per_epoch and step % self._every == 0:
            self._save()

    def on_test_batch_end(self, batch: int, logs: EpochLogs = None) -> None:
        """Leaves a validation that a signal came into if it takes too long to complete it."""
        if self._signal is not None and time.monotonic() - self._noted > _SECONDS_TO_VALIDATE:
            raise SystemExit(128 + self._signal)  # the last checkpoint serves

    def on_epoch_end(self, epoch: int, logs: EpochLogs = None) -> None:
        """Saves a checkpoint after the epoch's validation."""
        self._save(epoch_done=True)
        if self._signal is not None:
            raise SystemExit(128 + self._signal)

    def _step(self) -> int:
        return int(self.model.steps_taken.numpy())

    def _save(self, epoch_done: bool = False) -> None:
        step = self._step()
        if step % self._steps_per_epoch == 0 and not epoch_done:
            return  # resuming here would skip the epoch's validation; the last checkpoint serves
        states = {name: callback.get_state() for name, callback in self._stateful.items()}
        if epoch_done and "history" in states:
            states["history"] = {**states["history"], "seconds": 0.0}
        values = [[variable.numpy().tolist() for variable in m.variables] for m in self._metrics]
        state = {
            "step": step,
            "metrics": None if epoch_done else values,
            "stopped": self.model.stop_training,
            **states,
        }
        if self._write:
            self._checkpoints.save(state, step)


class ShowProgress(keras.callbacks.Callback):
    """Shows steps, rate and time left, and one line of results after every epoch.

    Args:
        progress: Counts the steps of the whole training.
        epochs: Number of epochs.
    """

    def __init__(self, progress: Progress, epochs: int) -> None:
        super().__init__()
        self._progress, self._epochs = progress, epochs

    def on_train_batch_end(self, batch: int, logs: EpochLogs = None) -> None:
        """Counts the step."""
        self._progress.advance_to(int(self.model.steps_taken.numpy()))

    def on_epoch_end(self, epoch: int, logs: EpochLogs = None) -> None:
        """Prints the epoch's results."""
        values = "  ".join(f"{name} {value:.4f}" for name, value in (logs or {}).items())
        self._progress.say(f"epoch {epoch + 1}/{self._epochs}  {values}")
