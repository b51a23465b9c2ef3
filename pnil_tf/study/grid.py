"""A study from its settings to its results: what `bin/reproduce.py` calls."""

from __future__ import annotations

import dataclasses
import datetime
import logging
import os
import platform
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pnil_tf.errors import RunFailedError, UserError, argument
from pnil_tf.files import (
    LOCK,
    is_leftover,
    lock_folder,
    read_json,
    refuse_odd_entries,
    remove_leftovers,
    tidy,
    understood,
    write_record,
)
from pnil_tf.interruption import interruption_told
from pnil_tf.jobs.engine import require_engine, run_jobs
from pnil_tf.jobs.watch import Watch
from pnil_tf.progress import clock
from pnil_tf.study import formatting
from pnil_tf.study.budgets import BUDGETS
from pnil_tf.study.cost import kind_of, measured, predicted_seconds
from pnil_tf.study.job_folder import JobFolder
from pnil_tf.study.results import CELLS, DAMAGED, merged
from pnil_tf.study.settings import StudySettings
from pnil_tf.study.studies import Job, jobs_of

_RESULTS, _STUDY = "results.json", "study.json"

logger = logging.getLogger(__name__)


def reproduce(settings: StudySettings) -> dict[str, Any]:
    """Does what is left of a study, and writes its results.

    Returns:
        The content of `results.json`.

    Raises:
        UserError: If the folder belongs to another budget or another process, or the predicted
            time is declined.
        RunFailedError: If jobs failed, or files of a cell are damaged; the others are done and in
            the results all the same.
    """
    output = settings.folder
    refuse_odd_entries(output)
    if settings.report_only:
        results = _write_results(output)
        _report(output, results)
        _refuse_damage(results)
        return results
    require_engine(settings.engine, settings.gpus_per_job)
    _refuse_foreign(output)
    output.mkdir(parents=True, exist_ok=True)
    with lock_folder(output):
        remove_leftovers(output)
        for pattern in ("*", "*/evaluation_*"):  # a job that is done does not look there again
            for folder in (output / CELLS).glob(pattern):
                tidy(folder)
        jobs = _planned(settings, output)
        left = _left(output, jobs)
        done = len(jobs) - len(left)
        logger.info("%s: %d cells, %d of them done, in %s", settings.study, len(jobs), done, output)
        if left:
            _do(settings, output, jobs, left)
        results = _write_results(output)
        _report(output, results)
    failed = list(_left(output, jobs))
    if failed:
        raise RunFailedError(
            f"{len(failed)} of {len(jobs)} cells failed, first {failed[0]}: "
            f"{_folder(output, failed[0]).read()['error']} The same command tries them again; a "
            f"cell whose folder in {str(output / CELLS)!r} is deleted is done again."
        )
    _refuse_damage(results)
    return results


def _refuse_damage(results: dict[str, Any]) -> None:
    for record in results["cells"]:
        if record["status"] == DAMAGED:
            raise RunFailedError(
                f"The cell {record['name']} is not in the results: {record['error']}"
            )


def _do(settings: StudySettings, output: Path, jobs: dict[str, Job], left: dict[str, Job]) -> None:
    if not settings.yes and not sys.stdin.isatty():
        raise UserError(f"Nobody can be asked whether to begin. Pass {argument('yes')}.")
    logger.info("Measuring this machine ...")
    rates = measured(left.values())
    folders = {name: _folder(output, name) for name in left}
    seconds = {
        name: predicted_seconds(
            folders[name].left_of(job),
            rates[kind_of(job)],
            trained=folders[name].run_record() is not None,
        )
        for name, job in left.items()
    }
    _ask(settings, len(left), sum(seconds.values()))
    _note(output, settings, jobs, rates, sum(seconds.values()))
    for name, job in left.items():
        folders[name].prepare(job, settings.data_dir)
    progress = _GridProgress(seconds, len(jobs), output)
    with interruption_told(lambda: _interrupted(output, jobs)):
        run_jobs(
            settings.engine,
            list(folders.values()),
            settings.workers,
            Watch(progress.started, progress.ended),
            gpus=settings.gpus_per_job,
        )


def _interrupted(output: Path, jobs: dict[str, Job]) -> str:
    done = len(jobs) - len(_left(output, jobs))
    return (
        f"Interrupted. {done} of {len(jobs)} cells are done; they and the last checkpoint of one "
        f"that is not are kept in {output}. The same command goes on."
    )


def _refuse_foreign(output: Path) -> None:
    if not output.exists() or (output / _STUDY).exists():
        return
    if any(name != LOCK and not is_leftover(name) for name in os.listdir(output)):
        raise UserError(
            f"{str(output)!r} exists and holds no study (no {_STUDY}). Choose another "
            f"{argument('output')}."
        )


def _planned(settings: StudySettings, output: Path) -> dict[str, Job]:
    """Returns the jobs of a study by name. Writes nothing: it may still be declined."""
    budget = BUDGETS[settings.budget]
    file = output / _STUDY
    if file.exists():
        with understood(file):
            found = read_json(file)["budget"]
            if found != budget.to_json():
                raise UserError(
                    f"{str(output)!r} holds a study with another budget ({found['name']!r}, or an "
                    f"earlier version of it). Received: {argument('budget', budget.name)}. Choose "
                    f"another {argument('output')}."
                )
    jobs = {job.cell.name: job for job in jobs_of(settings.study, budget)}
    for name, job in jobs.items():
        _folder(output, name).check(job)
    return jobs


def _left(output: Path, jobs: dict[str, Job]) -> dict[str, Job]:
    return {name: job for name, job in jobs.items() if not _folder(output, name).has_done(job)}


def _folder(output: Path, name: str) -> JobFolder:
    return JobFolder(output / CELLS / name)


def _note(
    output: Path, settings: StudySettings, names: Iterable[str], rates: Any, seconds: float
) -> None:
    """Writes down which cells there are to be, and what they were predicted to cost."""
    file = output / _STUDY
    begun: dict[str, Any] = {"budget": BUDGETS[settings.budget].to_json(), "predictions": []}
    study = read_json(file) if file.exists() else begun
    prediction = {
        "study": settings.study,
        "date": _now(),
        "seconds": round(seconds),
        "rates": {f"{name} of width {width}": r.to_json() for (name, width), r in rates.items()},
        "machine": {"cpus": os.cpu_count(), "architecture": platform.machine()},
    }
    with understood(file):
        noted = {
            "predictions": [*study["predictions"], prediction],
            "names": list(dict.fromkeys([*study.get("names", ()), *names])),
        }
    write_record(file, {**study, **noted})


def _ask(settings: StudySettings, cells: int, seconds: float) -> None:
    budget = BUDGETS[settings.budget]
    print(f"Budget {budget.name}: {budget.says}")
    print(
        f"{cells} cells are left to do, about {formatting.duration(seconds)} (hours, minutes, "
        f"seconds) as this machine was a moment ago, {settings.workers} at once."
        + (" The nodes of a cluster share that." if settings.engine == "ray" else ""),
        flush=True,
    )
    if not settings.yes and _answer("Begin? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UserError(
            f"Nothing was begun, as you answered. {argument('budget', 'smoke')} is the smallest."
        )


def _answer(question: str) -> str:
    try:
        return input(question)
    except EOFError:
        return ""


def _write_results(output: Path) -> dict[str, Any]:
    if not (output / _STUDY).exists():
        raise UserError(
            f"{str(output)!r} holds no study (no {_STUDY}). Check {argument('output')}."
        )
    study = read_json(output / _STUDY)
    with understood(output / _STUDY):
        cells = merged(output, study["budget"]["name"], study.get("names", ()))
    results = {**study, "cells": cells, "date": _now()}
    write_record(output / _RESULTS, results)
    return results


def _report(output: Path, results: dict[str, Any]) -> None:
    from pnil_tf.study.report import write_reports  # matplotlib is slow to import

    with understood(output / CELLS):
        write_reports(output, results)


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


@dataclasses.dataclass
class _GridProgress:
    """Says which cell of how many is done, and how long the others will take.

    Args:
        predicted: Predicted seconds of the cells that are to be done, by name.
        total: Cells in all.
        output: The study's folder.
    """

    predicted: dict[str, float]
    total: int
    output: Path

    def __post_init__(self) -> None:
        self._begun = time.monotonic()
        self._starts: dict[str, float] = {}
        self._ended: set[str] = set()

    def started(self, folder: JobFolder) -> None:
        name = folder.path.name
        self._starts[name] = time.monotonic()
        number = self.total - len(self.predicted) + len(self._starts)
        self._say(f"[{number} of {self.total}] {name} ... (log: {folder.log})")

    def ended(self, folder: JobFolder) -> None:
        name = folder.path.name
        self._ended.add(name)
        took = clock(time.monotonic() - self._starts[name])
        state = folder.read()
        how = "done" if folder.finished else f"FAILED: {state['error']}"
        self._say(f"    {name}: {how} in {took}; {self._left()} left")
        _write_results(self.output)

    def _left(self) -> str:
        done = sum(self.predicted[name] for name in self._ended)
        left = sum(self.predicted.values()) - done
        # The machine as it was since, not as it was measured.
        return clock(left * (time.monotonic() - self._begun) / done)

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)
