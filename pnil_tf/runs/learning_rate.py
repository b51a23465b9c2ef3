"""The learning rate of a training: its range test, and its schedule over the steps."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from pnil_tf.data import training_stream
from pnil_tf.errors import RunFailedError, argument
from pnil_tf.progress import Progress
from pnil_tf.runs.model import compiled
from pnil_tf.runs.settings import TrainSettings
from pnil_tf.runs.training_job import TrainingJob, prepare
from pnil_tf.training.lr_range import LRRange, UndecidedError, lr_range_test, write_curve
from pnil_tf.training.schedules import OneCycle, Triangular
from pnil_tf.training.settings import DEFAULT_MAX_LR

logger = logging.getLogger(__name__)

_STEPS = 200


def find_learning_rate(settings: TrainSettings) -> tuple[LRRange, Path]:
    """Runs the LR range test of a training and writes its curve into `NAME_lr_range`.

    Returns:
        What was found, and the folder.

    Raises:
        UserError: If the settings cannot be followed.
        RunFailedError: If the curve decides nothing.
    """
    job = prepare(settings)
    folder = Path(settings.run.runs_dir) / f"{settings.run.name}_lr_range"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        found = _range_test(job)
    except UndecidedError as error:  # no setting of the user's is wrong, the training failed
        raise RunFailedError(str(error)) from error
    write_curve(found, folder)
    return found, folder


def found_peak_rate(job: TrainingJob, folder: Path) -> float:
    """The peak learning rate that a range test suggests; its curve is written into `folder`.

    Where the curve decides nothing it is the default, which a warning says.
    """
    try:
        found = _range_test(job)
    except UndecidedError:
        logger.warning(
            "LR range test: the loss never fell, so the curve decides nothing. The peak learning "
            "rate is the default, %.4g; pass %s for another.",
            *(DEFAULT_MAX_LR, argument("max_lr")),
        )
        return DEFAULT_MAX_LR
    if job.chief:
        write_curve(found, folder)
    return found.suggested_max


@contextlib.contextmanager
def _shown(chief: bool) -> Iterator[list[keras.callbacks.Callback]]:
    """Within it, these callbacks show how far the test is; of several workers, one does."""
    if not chief:
        yield []
        return
    progress, done = Progress("LR range test", _STEPS, "step"), 0

    def advance(batch: int, logs: Any = None) -> None:
        nonlocal done
        done = batch + 1
        progress.advance_to(done)

    try:
        yield [keras.callbacks.LambdaCallback(on_train_batch_end=advance)]
    finally:
        progress.close(f"{done} steps")


def _range_test(job: TrainingJob) -> LRRange:
    """Runs the LR range test of a training, on a model of its own."""
    optimization = job.settings.optimization
    stream = job.in_range(
        training_stream(job.data.train, optimization.batch_size, optimization.seed)
    )
    model, _ = compiled(job, 1e-3)
    try:
        with _shown(job.chief) as callbacks:
            found = lr_range_test(model, stream, steps=_STEPS, callbacks=callbacks)
    except tf.errors.OpError as error:
        if job.data.failure is None:
            raise
        raise RunFailedError(f"The LR range test cannot go on: {job.data.failure}") from error
    logger.info("LR range test: peak learning rate %.4g", found.suggested_max)
    return found


def schedule(job: TrainingJob, max_lr: float) -> Any:
    """The learning rate over the steps, with its peak at `max_lr`: a number or a schedule."""
    optimization, steps_per_epoch = job.settings.optimization, job.steps_per_epoch
    if optimization.schedule == "constant":
        return max_lr
    if optimization.schedule == "one_cycle":
        return OneCycle(max_lr, max(optimization.epochs * steps_per_epoch, 2))
    min_lr = max_lr / 10 if optimization.min_lr is None else optimization.min_lr
    period = max(round(optimization.cycle_epochs * steps_per_epoch), 2)
    return Triangular(min_lr, max_lr, period)
