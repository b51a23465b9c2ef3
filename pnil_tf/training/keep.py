"""Which of a training's classifiers is kept."""

from __future__ import annotations

import math
from pathlib import Path

import keras

from pnil_tf.files import replacing, sha256_of
from pnil_tf.training.callbacks import InvalidLossError
from pnil_tf.training.guard import OverfittingGuard
from pnil_tf.training.types import EpochLogs, State


class KeepClassifier(keras.callbacks.Callback):
    """Keeps the classifier of one epoch, the best or the last, in a `.keras` file.

    It is the one with averaged weights, if the model averages them. An epoch that the guard finds
    collapsed is passed over, whatever the guard does about it.

    Args:
        path: The file.
        rule: `"best"` for the epoch with the lowest value of a log, `"last"` for the newest one.
        monitor: The log's name.
        guard: The training's guard, if it has one; it must stand before this callback.
        write: Whether this process writes files.
    """

    def __init__(
        self,
        path: Path,
        rule: str,
        monitor: str,
        guard: OverfittingGuard | None = None,
        write: bool = True,
    ) -> None:
        super().__init__()
        self._path, self._guard, self._write = path, guard, write
        self._kept: State = {
            "rule": rule,
            "monitor": monitor,
            "epoch": None,
            "value": None,
            "sha256": None,
        }

    def on_epoch_end(self, epoch: int, logs: EpochLogs = None) -> None:
        """Saves the classifier if the epoch is the one to keep so far."""
        monitor = self._kept["monitor"]
        value = float((logs or {})[monitor])
        if not math.isfinite(value):
            step = int(self.model.steps_taken.numpy())
            raise InvalidLossError(f"{monitor} is {value} after step {step}.")
        if (self._guard is not None and self._guard.collapsed) or not self._wins(value):
            return
        digest = None
        if self._write:
            with replacing(self._path) as temporary, self.model.averaged_weights():
                self.model.classifier.save(temporary)
            digest = sha256_of(self._path)
        self._kept = {**self._kept, "epoch": epoch + 1, "value": value, "sha256": digest}

    def _wins(self, value: float) -> bool:
        before = self._kept["value"]
        return self._kept["rule"] == "last" or before is None or value < before

    def get_state(self) -> State:
        """Rule and log, the kept epoch (counted from 1), the log's value and the file's digest."""
        return self._kept

    def set_state(self, state: State) -> None:
        """Goes on from `get_state`."""
        self._kept = state


def why_kept(kept: State, epochs: int) -> str:
    """Which classifier was kept and why, in a sentence.

    Args:
        kept: What `KeepClassifier.get_state` returns.
        epochs: How many epochs were completed.
    """
    if kept["rule"] == "best":
        why = f"whose {kept['monitor']}, {kept['value']:.4f}, is the lowest"
    else:
        why = "the last" if kept["epoch"] == epochs else "the last that had not collapsed"
    return f"Kept the classifier of epoch {kept['epoch']} of {epochs}, {why}."
