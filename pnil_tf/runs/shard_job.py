"""The folder of a process that does a part of others' work. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pnil_tf.files import read_json, write_record
from pnil_tf.jobs.job import Job
from pnil_tf.jobs.process import how_it_ended

_MOST_LOSSES = 5


class ShardJob(Job):
    """What one process of a crew has to do, and how far it is.

    Args:
        path: The folder.
    """

    module = "pnil_tf.runs.shard"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = path / "job.json"

    def prepare(self, task: Mapping[str, Any]) -> None:
        """Writes down what is to be done."""
        self.path.mkdir()
        write_record(
            self._file,
            {"task": dict(task), "finished": False, "failed": False, "error": None, "losses": 0},
        )

    @property
    def task(self) -> dict[str, Any]:
        """What is to be done."""
        task: dict[str, Any] = read_json(self._file)["task"]
        return task

    @property
    def environment(self) -> Mapping[str, str]:
        """One GPU, of which it takes what it needs."""
        gpu = self.task["gpu"]
        if gpu is None:
            return {}
        return {"CUDA_VISIBLE_DEVICES": gpu, "TF_FORCE_GPU_ALLOW_GROWTH": "true"}

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return bool(read_json(self._file)["finished"])

    @property
    def error(self) -> str:
        """Why it is not finished, one sentence."""
        return str(read_json(self._file)["error"])

    def is_lost(self) -> bool:
        """Whether the process was ended from outside, and is to be started again."""
        state = read_json(self._file)
        return not (state["finished"] or state["failed"]) and state["losses"] <= _MOST_LOSSES

    def note_end(self, status: int) -> None:
        """Notes that the process ended without a word, as one that is killed does."""
        state = read_json(self._file)
        if not (state["finished"] or state["failed"]):
            losses, error = state["losses"] + 1, how_it_ended(self, status)
            write_record(self._file, {**state, "losses": losses, "error": error})

    def note_failure(self, why: str) -> None:
        """Notes that the work itself failed: a second try would fail, too."""
        write_record(self._file, {**read_json(self._file), "failed": True, "error": why})

    def note_finished(self) -> None:
        """Notes that all is done."""
        write_record(self._file, {**read_json(self._file), "finished": True})
