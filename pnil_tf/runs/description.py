"""What a training run says of itself: in run.json, in flags.cfg and on the screen."""

from __future__ import annotations

import dataclasses
import platform
from typing import Any

import tensorflow as tf

from pnil_tf.contract.pixel_range import UNIT, PixelRange
from pnil_tf.runs.own_files import FLAGS_BEGIN
from pnil_tf.runs.settings import TrainSettings
from pnil_tf.runs.training_job import TrainingJob
from pnil_tf.version import versions


def first_record(job: TrainingJob) -> dict[str, Any]:
    """What `run.json` says when the training begins."""
    settings, strategy = job.settings, job.strategy
    described = job.data.describe()
    return {
        "status": "unfinished",
        "data_source": described["source"],
        "data": described,
        "seed": settings.optimization.seed,
        "noise": {
            "pnil": settings.model.pnil,
            "initial_sigma": settings.model.pnil_sigma if settings.model.pnil else None,
            "noise_at_inference": settings.model.pnil and settings.model.noise_at_inference,
        },
        "versions": versions(),
        "device": {
            "replicas": strategy.num_replicas_in_sync,
            "strategy": type(strategy).__name__,
            "gpus": [gpu.name for gpu in tf.config.list_physical_devices("GPU")],
            "machine": platform.machine(),
            "precision": dataclasses.asdict(job.precision),
        },
        "settings": {
            field.name: dataclasses.asdict(getattr(settings, field.name))
            for field in dataclasses.fields(settings)
        },
    }


def flagfile(settings: TrainSettings) -> str:
    """The flags that repeat the run, `--flagfile=PATH` (absl)."""
    lines = [f"{FLAGS_BEGIN}THIS_FILE --name=ANOTHER_NAME repeats this run."]
    for field in dataclasses.fields(settings):
        for name, value in dataclasses.asdict(getattr(settings, field.name)).items():
            if value is None or name in ("resume", "overwrite", "split_seed"):
                continue
            if isinstance(value, tuple):
                value = ("x" if name == "image_size" else ",").join(map(str, value))
            lines.append(f"--{name}={str(value).lower() if isinstance(value, bool) else value}")
    return "\n".join(lines) + "\n"


def say_result(record: dict[str, Any]) -> None:
    """Prints the result of a finished run as a table, if it was evaluated."""
    result = record.get("result")
    if not result:
        return
    print(f"{'':16}{'accuracy':>10}  95 % interval    images")
    for name, title in (("clean_accuracy", "clean"), ("pgd_accuracy", "PGD-50")):
        figure = result[name]
        print(
            f"{title:16}{figure['value']:>9.2%}  {figure['low']:.2%} - {figure['high']:.2%}"
            f"  {figure['images']:>6}"
        )
    radius = PixelRange.of(result.get("pixel_range", UNIT)).says(result["epsilon"], result["norm"])
    print(
        f"epsilon {radius}, {result['norm']}, {result['eot_samples']} EOT draws, "
        f"data source: {record['data_source']}"
    )
