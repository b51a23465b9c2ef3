"""The end of a training: its classifier, its pictures, and a first look at its robustness."""

from __future__ import annotations

import datetime
import logging
import time
from typing import Any

import keras

from pnil_tf.evaluation.quick import quick_evaluation
from pnil_tf.pictures import learning_curves, pnil_maps
from pnil_tf.runs.description import say_result
from pnil_tf.runs.directory import RunDirectory
from pnil_tf.runs.fitting import Fitted
from pnil_tf.runs.training_job import TrainingJob
from pnil_tf.training.keep import why_kept
from pnil_tf.training.learned import only_guesses

logger = logging.getLogger(__name__)

_PICTURED_IMAGES = 4


def finish(
    job: TrainingJob, directory: RunDirectory, record: dict[str, Any], fitted: Fitted
) -> None:
    """Leaves the kept classifier, the pictures and the result, in `record` and in the folder."""
    settings, data = job.settings, job.data
    started = time.monotonic()
    logger.info(why_kept(fitted.kept, len(fitted.rows)))
    validated = data.validation.take(settings.attack.validation_images)
    accuracy = fitted.rows[fitted.kept["epoch"] - 1]["val_accuracy"]
    if guesses := only_guesses(accuracy, validated.labels):
        logger.warning(guesses)
    directory.publish(fitted.kept)
    classifier = keras.saving.load_model(directory.classifier, safe_mode=True)
    learning_curves(fitted.rows, directory.path / "learning_curves.png")
    if settings.model.pnil_in_front:
        pictured = data.test.take(_PICTURED_IMAGES).unit_images
        pictured = job.pixel_range.from_unit(pictured)
        pnil_maps(classifier, pictured, directory.path / "pnil_maps.png")
    seconds = [row["seconds"] for row in fitted.rows]
    images = job.steps_per_epoch * settings.optimization.batch_size
    record |= {
        "status": "finished",
        "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "kept": fitted.kept,
        "guard_events": fitted.guard_events,
        "seconds_per_epoch": seconds,
        "images_per_second": round(images * len(seconds) / sum(seconds), 1),
        "training_seconds": round(sum(seconds), 1),
        "result": None,
    }
    if settings.run.evaluation_images:
        assert settings.attack.epsilon is not None
        record["result"] = quick_evaluation(
            classifier,
            data.test,
            settings.run.evaluation_images,
            settings.attack.epsilon,
            norm=settings.attack.norm,
            eot_samples=settings.run.evaluation_eot_samples,
            seed=settings.optimization.seed,
            pixel_range=job.pixel_range,
        )
    # Of all processes that worked on the run; the training's are in its history.
    after = time.monotonic() - started
    record["total_seconds"] = round(sum(seconds) + after, 1)
    directory.write(record)
    say_result(record)
    logger.info("The run is in %s", directory.path)
