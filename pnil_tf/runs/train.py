"""One training run from settings to files: what the command `train` calls."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pnil_tf.errors import argument, repeated_with
from pnil_tf.files import understood, write_text
from pnil_tf.interruption import interruption_alone, interruption_told
from pnil_tf.runs.continuation import FREE_ON_RESUME, check_images, continued
from pnil_tf.runs.description import first_record, flagfile, say_result
from pnil_tf.runs.directory import RunDirectory
from pnil_tf.runs.finish import finish
from pnil_tf.runs.fitting import WORKER_LOST, WorkerLostError, fit
from pnil_tf.runs.learning_rate import found_peak_rate, schedule
from pnil_tf.runs.settings import TrainSettings
from pnil_tf.runs.training_job import TrainingJob, prepare
from pnil_tf.training.checkpoints import saved_steps
from pnil_tf.training.precision import Precision
from pnil_tf.training.strategy import same_on_all_workers
from pnil_tf.validation import require

logger = logging.getLogger(__name__)


def train(settings: TrainSettings, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Trains one classifier and leaves its run folder.

    Args:
        settings: Everything there is to say.
        given: With `resume`, the settings said explicitly, by name: those of the existing run
            are taken, and an explicit one that differs is refused.

    Returns:
        The content of `run.json`.

    Raises:
        UserError: If the settings cannot be followed; before anything is loaded or written.
    """
    directory = RunDirectory(settings.run)
    record, precision = _found(directory, settings, given or {}), None
    if record is not None:
        with understood(directory.description):
            settings = continued(settings, record["settings"], given or {})
            if record["status"] == "finished":
                logger.info("The run %s is finished.", directory.path)
                say_result(record)
                return record
            precision = _precision(record)
        _require_images(settings)
    job = prepare(settings, precision)
    record = _begun(job, directory, record)
    with (
        interruption_told(lambda: _left(directory)),
        _earlier_run_kept(job, directory),
        interruption_alone(),
    ):
        rate = schedule(job, _peak_rate(job, directory, record))
        fitted = fit(job, directory, record, rate)
        if job.chief:
            finish(job, directory, record, fitted)
    return record


@contextlib.contextmanager
def _earlier_run_kept(job: TrainingJob, directory: RunDirectory) -> Iterator[None]:
    """Gives a run that was to be replaced up for the new one, or the new one up if it fails."""
    try:
        yield
    except WorkerLostError:
        raise
    except Exception:
        new = directory.keep_old() if job.chief else None
        if new is not None:
            logger.error(
                "%s is the earlier run again. What the new one reached is in %s: go on with it by "
                "%s and %s.",
                *(directory.path, new, argument("resume"), argument("name", new.name)),
            )
        raise
    if job.chief:
        directory.keep_new()


def _found(
    directory: RunDirectory, settings: TrainSettings, given: Mapping[str, Any]
) -> dict[str, Any] | None:
    """What the run to go on with says; `None` for a new run."""
    if not settings.run.resume:
        return None
    if directory.exists:
        return directory.read()
    require(
        bool(set(given or {"dataset": ""}) - FREE_ON_RESUME),
        f"There is no run {str(directory.path)!r} for {argument('resume')} to go on with. Check "
        f"{argument('name')} and {argument('runs_dir')}, or say what to train.",
    )
    logger.info("There is no run %s yet: it is begun.", directory.path)
    return None


def _require_images(settings: TrainSettings) -> None:
    """Says how a run goes on whose own images are no longer where they were."""
    place = settings.data.folder or settings.data.npz
    require(
        place is None or Path(place).expanduser().exists(),
        f"The images of this run are not at {place}. Bring them there, or say where they are: "
        f"{argument('dataset', settings.data.dataset.partition(':')[0] + ':NEW')}.",
    )


def _precision(record: dict[str, Any]) -> Precision | None:
    """The precision in which a run was begun, unless that was before it was kept."""
    kept = record["device"].get("precision")
    return None if kept is None else Precision(**kept)


def _begun(
    job: TrainingJob, directory: RunDirectory, record: dict[str, Any] | None
) -> dict[str, Any]:
    """Begins the run's folder, or takes it over; returns what `run.json` says."""
    try:
        same = same_on_all_workers(job.strategy, job.data.sha256)
    except WORKER_LOST as error:
        raise WorkerLostError(
            "A worker of this training ended before its first step. Look for the reason in what it "
            "said, and start all workers again."
        ) from error
    require(
        same,
        "The workers of this training have read different images, or have shared them out "
        f"differently; this one {sum(job.data.counts.values()):,} of {job.data.name}. Give every "
        "worker the same files.",
    )
    if record is None:
        record = first_record(job)
        if job.chief:
            directory.begin(record, flagfile(job.settings))
        return record
    with understood(directory.description):
        check_images(record, job.data)
    moved = job.settings.data.dataset != record["settings"]["data"]["dataset"]
    if moved:
        record["settings"]["data"]["dataset"] = job.settings.data.dataset
        record["data"] = job.data.describe()
    if job.chief:
        directory.lock()
        if moved:
            directory.write(record)
            write_text(directory.flagfile, flagfile(job.settings))
    return record


def _peak_rate(job: TrainingJob, directory: RunDirectory, record: dict[str, Any]) -> float:
    """The peak learning rate: the run's, or that of its settings, or what a range test finds."""
    if "max_lr" not in record:
        record["max_lr"] = job.settings.optimization.max_lr
        if record["max_lr"] == "auto":
            record["max_lr"] = found_peak_rate(job, directory.path)
        if job.chief:
            directory.write(record)
    with understood(directory.description):
        return float(record["max_lr"])


def _left(directory: RunDirectory) -> str:
    """What an interrupted training leaves, and how to go on."""
    steps = saved_steps(directory.last)
    if not steps:
        return (
            f"Interrupted before the first checkpoint of {directory.path}: "
            f"{repeated_with('resume')} begins the training again."
        )
    return (
        f"Interrupted. The checkpoint of step {steps[-1]} is in {directory.last}: "
        f"{repeated_with('resume')} goes on from there."
    )
