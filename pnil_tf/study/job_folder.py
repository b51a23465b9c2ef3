"""The folder of one job: what is to be done there, and how far it is. Imports no TensorFlow."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from pnil_tf.errors import UserError, argument
from pnil_tf.files import read_json, understood, write_record
from pnil_tf.jobs import job as jobs
from pnil_tf.jobs.process import how_it_ended
from pnil_tf.runs.names import RUN
from pnil_tf.study.budgets import Effort
from pnil_tf.study.cells import Cell
from pnil_tf.study.studies import Evaluation, Job

_RUN, _RESULTS = "run", "results.json"


class JobFolder(jobs.Job):
    """One job's folder: `job.json`, the run, one folder for each evaluation, and a log.

    Args:
        path: The folder.
    """

    module = "pnil_tf.study.job"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.state_file = path / "job.json"
        self.run = path / _RUN

    def note_end(self, status: int) -> None:
        """Notes that a process ended without a word, as one that is killed does."""
        if status != 0 and self.read()["status"] != "failed":
            self.note_failure(how_it_ended(self, status))

    def note_failure(self, why: str) -> None:
        """Notes that the job has failed, and why."""
        self.update(status="failed", error=why)

    def check(self, job: Job) -> None:
        """Sees whether a job may be done here.

        Raises:
            UserError: If the folder holds the same cell with another effort.
        """
        found = self.read()
        for key, value in _asked(job).items() if found else ():
            if found.get(key) != value:
                raise UserError(
                    f"{self.path} was begun with another {key.replace('_', ' ')}. "
                    f"Received: {json.dumps(value)}; it has {json.dumps(found.get(key))}. Choose "
                    f"another {argument('output')}."
                )

    def prepare(self, job: Job, data_dir: str | None) -> None:
        """Writes down what is to be done; what was done before stays done.

        Raises:
            UserError: If the folder holds the same cell with another effort.
        """
        self.check(job)
        evaluations = [dataclasses.asdict(entry) for entry in self._all(job)]
        self.path.mkdir(parents=True, exist_ok=True)
        state = {"status": "waiting", "error": None, **_asked(job), "data_dir": data_dir}
        self.write({**state, "evaluations": evaluations})

    def read(self) -> dict[str, Any]:
        """Returns what `job.json` says; empty if there is none.

        Raises:
            UserError: If it is damaged.
        """
        if not self.state_file.exists():
            return {}
        state = read_json(self.state_file)
        with understood(self.state_file):
            for entry in state["evaluations"]:
                if Path(entry["name"]).name != entry["name"]:  # a folder of ours is named after it
                    raise ValueError(f"{entry['name']!r} is no name of an evaluation")
        return state

    def write(self, state: dict[str, Any]) -> None:
        """Replaces `job.json`."""
        write_record(self.state_file, state)

    def update(self, **values: Any) -> None:
        """Changes some of what `job.json` says."""
        self.write({**self.read(), **values})

    def job(self) -> Job:
        """The job that the folder was prepared for."""
        state = self.read()
        with understood(self.state_file):
            effort: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in state["effort"].items()
            }
            return Job(
                Cell(**state["cell"]),
                Effort(**effort),
                state["data_source"],
                self._prepared(),
            )

    def evaluation(self, name: str) -> Path:
        """The folder of one evaluation."""
        return self.path / f"evaluation_{name}"

    def run_record(self) -> dict[str, Any] | None:
        """What `run.json` says, if the training is finished."""
        file = self.run / RUN
        record = read_json(file) if file.exists() else {}
        return record if record.get("status") == "finished" else None

    def results(self, name: str) -> dict[str, Any] | None:
        """What an evaluation found, if it is finished."""
        file = self.evaluation(name) / _RESULTS
        return read_json(file) if file.exists() else None

    def left_of(self, job: Job) -> Job:
        """What is left to evaluate when a job is prepared here, also of earlier ones."""
        left = [entry for entry in self._all(job) if not self._has(entry.name)]
        return dataclasses.replace(job, evaluations=tuple(left))

    def has_done(self, job: Job) -> bool:
        """Whether the folder was prepared for a job, and nothing is left to do."""
        known = {entry.name for entry in self._prepared()}
        return self.finished and known >= {entry.name for entry in job.evaluations}

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do of all that the folder was ever prepared for."""
        entries = self._prepared()
        return (
            self.state_file.exists()
            and self.run_record() is not None
            and all(self._has(entry.name) for entry in entries)
        )

    def _prepared(self) -> tuple[Evaluation, ...]:
        with understood(self.state_file):
            return tuple(Evaluation(**entry) for entry in self.read().get("evaluations", []))

    def _all(self, job: Job) -> tuple[Evaluation, ...]:
        """A job's evaluations, and then those that the folder was prepared for before."""
        asked = {entry.name for entry in job.evaluations}
        return (*job.evaluations, *(e for e in self._prepared() if e.name not in asked))

    def _has(self, name: str) -> bool:
        return (self.evaluation(name) / _RESULTS).exists()


def _asked(job: Job) -> dict[str, Any]:
    """What two jobs of one folder have to share."""
    return {
        "cell": job.cell.to_json(),
        "effort": json.loads(json.dumps(dataclasses.asdict(job.effort))),
        "data_source": job.data_source,
    }
