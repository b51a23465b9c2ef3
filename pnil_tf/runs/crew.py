"""Several processes that share the images of one evaluation or certificate out.

Each loads the model from the disk, takes every so many-th batch, and leaves what it finds in the
store. A process that is lost is started again, and goes on after its last batch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pnil_tf.arrays import write_arrays
from pnil_tf.batching import batches_of
from pnil_tf.certificate.counting import KEPT_AT_ONCE
from pnil_tf.certificate.settings import CertificateSettings
from pnil_tf.errors import RunFailedError, UserError, argument
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.evaluation.target import Target, unwrapped
from pnil_tf.evaluation.transfer import Source
from pnil_tf.jobs.engine import require_engine, run_jobs
from pnil_tf.jobs.watch import Watch
from pnil_tf.runs.names import CERTIFICATE, EVALUATION
from pnil_tf.runs.shard_job import ShardJob
from pnil_tf.validation import require_count, require_one_of
from pnil_tf.vocabulary import ENGINES

_FOLDER, _MODEL, _SOURCE, _IMAGES = "shards", "model.keras", "source.keras", "images.npz"


class WorkerFailedError(RunFailedError):
    """A worker's part of the work failed; what others have finished is kept."""


@dataclasses.dataclass(frozen=True)
class Processes:
    """A crew of processes, see `pnil_tf.evaluation.shards.Crew`.

    Args:
        model: A Keras model, or the path of a saved one.
        images: The images, as they were handed to the evaluation or certificate.
        labels: Their classes; a certificate may have none.
        settings: What is done with them, which says whose work it is.
        workers: How many processes.
        engine: What runs them, one of `ENGINES`.
        source: What adversarial images are transferred from.
    """

    model: Any
    images: np.ndarray
    labels: np.ndarray | None
    settings: EvaluationSettings | CertificateSettings
    workers: int
    engine: str
    source: Source | None = None

    def work_off(
        self, target: Target, identity: Mapping[str, Any], state: Path, look: Callable[[], None]
    ) -> None:
        """Has every shard worked off, see `Crew`."""
        folder = state.resolve() / _FOLDER
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        arrays = {"images": self.images}
        if self.labels is not None:
            arrays["labels"] = self.labels
        work = EVALUATION if isinstance(self.settings, EvaluationSettings) else CERTIFICATE
        write_arrays(folder / _IMAGES, arrays, compressed=False)  # it is read soon, and once
        gpus = _visible_gpus()
        task = {
            "work": work,
            "of": self.workers,
            "model": _saved(self.model, folder / _MODEL),
            "source": None if self.source is None else _source(self.source, folder / _SOURCE),
            "images": str(folder / _IMAGES),
            "output": str(state.resolve().parent),
            "settings": {**self.settings.to_json(), **_chosen(identity["settings"])},
            "model_identity": identity["model"],
            "pixel_range": identity["pixel_range"],
            "outputs": target.outputs,
        }
        jobs = [ShardJob(folder / str(number)) for number in range(self.workers)]
        for number, job in enumerate(jobs):
            mine = gpus[number % len(gpus)] if gpus and self.engine == "local" else None
            job.prepare({**task, "number": number, "gpu": mine})
        watch = Watch(again=ShardJob.is_lost, meanwhile=look)
        run_jobs(self.engine, jobs, self.workers, watch, gpus=1.0 if gpus else 0.0)
        look()
        for job in jobs:
            if not job.finished:
                raise WorkerFailedError(f"A worker of the {work} failed: {job.error}")


def _chosen(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What was chosen when the work began: a certificate's seed, images in an attack's batch."""
    return {name: settings[name] for name in ("seed", "batch_size") if settings[name] is not None}


def _source(source: Source, file: Path) -> dict[str, Any]:
    """What a process is told of the model that images are transferred from, JSON types."""
    taken = source.pixel_range
    return {
        "path": _saved(source.path or source.model, file),
        "pixel_range": None if taken is None else [taken.low, taken.high],
        "outputs": source.outputs,
        "identity": source.identity,
    }


def _saved(model: Any, file: Path) -> str:
    """Where a model lies that is given by its path, or is saved now."""
    if isinstance(model, (str, Path)):
        return str(Path(model).resolve())
    model.save(file)
    return str(file)


def require_crew(workers: int, engine: str) -> None:
    """Refuses processes that cannot be had, before anything is loaded for them.

    Args:
        workers: How many.
        engine: What is to run them.

    Raises:
        UserError: If a number or name is not valid, Ray is not installed, or its cluster cannot be
            reached.
    """
    require_count("workers", workers)
    require_one_of("engine", engine, ENGINES)
    require_engine(engine)


def crew_of(
    model: Any,
    images: np.ndarray,
    labels: np.ndarray | None,
    settings: EvaluationSettings | CertificateSettings,
    workers: int,
    engine: str,
    source: Source | None = None,
) -> Processes | None:
    """Returns the crew for an evaluation or certificate, or None where one process is enough.

    `require_crew` has allowed it.

    Args:
        model: A Keras model, an `AdversarialModel`, or the path of a saved one.
        images: The images.
        labels: Their classes; a certificate may have none.
        settings: What is done with them.
        workers: How many processes; no more than there are batches.
        engine: What runs them, one of `ENGINES`.
        source: What adversarial images are transferred from, if anything.

    Raises:
        UserError: If processes cannot be given the model.
    """
    model = unwrapped(model)
    other = None if source is None else source.path or source.model
    for given in (model, other):
        if workers > 1 and not isinstance(given, (str, Path, keras.Model, type(None))):
            raise UserError(
                "Each worker loads its models from the disk, and a callable cannot be saved. "
                f"Received: a {type(given).__name__} with {argument('workers', workers)}. Give a "
                "Keras model or the path of a saved one, or use one worker."
            )
    count = min(len(images), settings.images)
    of_attacks = isinstance(settings, EvaluationSettings)
    # How many images share a batch may not be known yet.
    batches = batches_of(count, (settings.batch_size or 1) if of_attacks else KEPT_AT_ONCE)
    workers = min(workers, len(batches))
    if workers < 2:
        return None
    labels = None if labels is None else labels[:count]
    return Processes(model, images[:count], labels, settings, workers, engine, source)


def leave_room_on_gpus() -> None:
    """Has this process take no more of a GPU's memory than it needs: workers want theirs."""
    for gpu in tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):  # it is in use already
            tf.config.experimental.set_memory_growth(gpu, True)


def _visible_gpus() -> list[str]:
    """The names by which processes may be given one GPU each."""
    count = len(tf.config.list_physical_devices("GPU"))
    names = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return names[:count] if names else [str(number) for number in range(count)]
