"""Does a part of an evaluation or certificate in a process that `pnil_tf.jobs.process` starts."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np

from pnil_tf.certificate.runner import certify_shard
from pnil_tf.certificate.settings import CertificateSettings
from pnil_tf.contract.pixel_range import PixelRange
from pnil_tf.errors import failure, reason
from pnil_tf.evaluation.runner import evaluate_shard
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.evaluation.shards import Shard
from pnil_tf.evaluation.transfer import Source
from pnil_tf.jobs.process import end_with_parent
from pnil_tf.leaving import work_and_leave
from pnil_tf.runs.load import load_model
from pnil_tf.runs.names import CERTIFICATE
from pnil_tf.runs.shard_job import ShardJob
from pnil_tf.standard_streams import guard


def run_shard(path: Path) -> None:
    """Works off the shard of a prepared folder.

    Raises:
        Exception: Whatever went wrong; the folder says so, too.
    """
    job = ShardJob(path)
    try:
        task = job.task
        values: dict[str, Any] = task["settings"]
        with np.load(task["images"], allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays.get("labels")
        model, shard = load_model(task["model"]).model, Shard(task["number"], task["of"])
        told = {name: task[name] for name in ("model_identity", "outputs")}
        told["pixel_range"] = tuple(task["pixel_range"])
        if task["work"] == CERTIFICATE:
            settings = CertificateSettings(**values)
            certify_shard(model, images, labels, settings, task["output"], shard, **told)
        else:
            source = None if task["source"] is None else _source(**task["source"])
            evaluate_shard(
                model,
                images,
                labels,
                EvaluationSettings(**values),
                task["output"],
                shard,
                transfer_from=source,
                **told,
            )
    except Exception as error:
        job.note_failure(failure(error) or f"{type(error).__name__}: {reason(error)}")
        raise
    job.note_finished()


def _source(
    path: str, pixel_range: list[float] | None, outputs: str | None, identity: str | None
) -> Source:
    taken = None if pixel_range is None else PixelRange.of(pixel_range)
    return Source(load_model(path).model, taken, outputs, Path(path), identity)


if __name__ == "__main__":
    guard()
    end_with_parent()
    logging.basicConfig(format="%(message)s")
    work_and_leave(lambda: run_shard(Path(sys.argv[1])))
