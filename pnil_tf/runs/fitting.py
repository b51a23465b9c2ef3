"""The training itself: Keras' fit, resumable at every checkpoint."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import keras
import tensorflow as tf

from pnil_tf.data import batches, training_stream
from pnil_tf.errors import RunFailedError, argument, reason, repeated_with
from pnil_tf.progress import Progress
from pnil_tf.runs.directory import RunDirectory
from pnil_tf.runs.model import compiled
from pnil_tf.runs.training_job import TrainingJob
from pnil_tf.training.callbacks import (
    HistoryFile,
    InvalidLossError,
    SaveState,
    ShowProgress,
    Stateful,
    StopOnInvalidLoss,
)
from pnil_tf.training.checkpoints import TrainingCheckpoints
from pnil_tf.training.guard import OverfittingGuard
from pnil_tf.training.keep import KeepClassifier
from pnil_tf.training.model import AdversarialModel

logger = logging.getLogger(__name__)

_GUARD_IMAGES = 200
# What TensorFlow raises in a worker when another one ends.
WORKER_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


class WorkerLostError(RunFailedError):
    """Another process of the training ended; the same command on all machines goes on."""


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What a training came to.

    Args:
        rows: One for each epoch: its losses, its learning rate, its seconds.
        kept: The kept classifier: its epoch, its loss, its checksum; see `KeepClassifier`.
        guard_events: What the guard against catastrophic overfitting saw.
    """

    rows: list[dict[str, Any]]
    kept: dict[str, Any]
    guard_events: list[dict[str, Any]]


def fit(job: TrainingJob, directory: RunDirectory, record: dict[str, Any], rate: Any) -> Fitted:
    """Trains, from the newest checkpoint on if there is one.

    Args:
        job: The training.
        directory: Where the checkpoints are.
        record: What `run.json` says so far.
        rate: The learning rate, or its schedule.

    Raises:
        RunFailedError: If a worker is lost or the loss is not finite; what is left is said.
    """
    model, accuracy = compiled(job, rate)
    settings, data, chief = job.settings, job.data, job.chief
    steps_per_epoch = job.steps_per_epoch
    optimization = settings.optimization
    validation = data.validation.take(settings.attack.validation_images)
    adversarial = model.attack is not None and model.validation_attack is not None
    monitor = "val_adversarial_loss" if adversarial else "val_loss"
    history = HistoryFile(directory.history, chief)
    guard = _guard(model, job, directory)
    kept = KeepClassifier(directory.kept, optimization.keep, monitor, guard, chief)
    stateful: dict[str, Stateful] = {"history": history, "kept": kept}
    if guard is not None:
        stateful["guard"] = guard
    save = SaveState(
        TrainingCheckpoints(directory.last, model),
        stateful,
        # Keras shows its compiled metrics only after the first step, hence by hand.
        [accuracy, *(metric for metric in model.metrics if metric.name == "loss")],
        steps_per_epoch,
        settings.run.checkpoint_steps,
        chief,
    )
    step, stopped = save.restore() if settings.run.resume else (0, False)
    if step:
        logger.info("Going on after step %d.", step)
    total = optimization.epochs * steps_per_epoch
    progress = Progress("training", total, "step", step) if chief else None
    callbacks = [StopOnInvalidLoss(), *([] if guard is None else [guard])]
    callbacks += [kept, history, save]
    if progress is not None:
        callbacks.append(ShowProgress(progress, optimization.epochs))
        if guard is not None:
            guard.told = progress.meanwhile
    if settings.run.tensorboard and chief:
        callbacks.append(keras.callbacks.TensorBoard(str(directory.tensorboard)))
    replicas = model.distribute_strategy.num_replicas_in_sync
    validation_batch = min(optimization.batch_size, len(validation)) // replicas * replicas
    validation_data = job.in_range(
        batches(validation, validation_batch, drop_remainder=replicas > 1)
    )

    def train(first_epoch: int, epochs: int, steps: int) -> None:
        start = int(model.steps_taken.numpy())
        model.fit(
            job.in_range(
                training_stream(data.train, optimization.batch_size, optimization.seed, start)
            ),
            initial_epoch=first_epoch,
            epochs=epochs,
            steps_per_epoch=steps,
            validation_data=validation_data,
            callbacks=callbacks,
            shuffle=False,  # the stream is shuffled
            verbose=0,
        )

    # An epoch that was interrupted is completed first: Keras counts whole epochs only.
    epoch, done = divmod(step, steps_per_epoch)
    try:
        if done and not stopped:
            train(epoch, epoch + 1, steps_per_epoch - done)
            epoch, stopped = epoch + 1, model.stop_training
        if epoch < optimization.epochs and not stopped:
            train(epoch, optimization.epochs, steps_per_epoch)
    except WORKER_LOST as error:
        if model.distribute_strategy.cluster_resolver is None:
            raise
        raise WorkerLostError(
            f"A worker of this training is gone: {data.failure or reason(error)}. The "
            f"checkpoints are kept. Start all workers again with {argument('resume')}."
        ) from error
    except tf.errors.OpError as error:
        if data.failure is None:
            raise
        raise RunFailedError(
            f"The training cannot go on: {data.failure} The checkpoints are kept: "
            f"{repeated_with('resume')} goes on from the last."
        ) from error
    except InvalidLossError as error:
        left = _kept_so_far(directory, record, kept) if chief else ""
        raise RunFailedError(
            f"{error} {left}Lower {argument('max_lr')}, or let {argument('max_lr', 'auto')} find "
            "it."
        ) from error
    if progress is not None:
        several = "" if len(history.rows) == 1 else "s"
        progress.close(f"{len(history.rows)} epoch{several}")
    events = [] if guard is None else guard.events
    return Fitted(history.rows, kept.get_state(), events)


def _kept_so_far(directory: RunDirectory, record: dict[str, Any], kept: KeepClassifier) -> str:
    """Leaves the classifier that a training kept before it failed, and says where."""
    state = kept.get_state()
    if state["epoch"] is None:
        return ""
    directory.publish(state)
    directory.write({**record, "kept": state})
    return (
        f"The {state['rule']} classifier, of epoch {state['epoch']}, is "
        f"{str(directory.classifier)!r}. "
    )


def _guard(
    model: AdversarialModel, job: TrainingJob, directory: RunDirectory
) -> OverfittingGuard | None:
    settings = job.settings
    if settings.attack.guard == "off" or model.attack is None:
        return None
    watched = job.data.validation.take(_GUARD_IMAGES)
    return OverfittingGuard(
        job.pixel_range.from_unit(watched.unit_images),
        watched.labels,
        action=settings.attack.guard,
        directory=directory.checkpoints,
        writes=job.chief,
        # The guard works on one device, which has room for what a replica trains on.
        batch_size=settings.optimization.batch_size // job.strategy.num_replicas_in_sync,
    )
