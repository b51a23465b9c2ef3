"""One training run from settings to files: what `bin/train.py` calls."""

from __future__ import annotations

import dataclasses
import datetime
import logging
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pnil_tf.attacks.eot import EOT
from pnil_tf.attacks.one_step import StepAttack, step_attack
from pnil_tf.data import Dataset, DataSettings, batches, load, training_stream
from pnil_tf.errors import RunFailedError, UserError, reason
from pnil_tf.evaluation.quick import quick_evaluation
from pnil_tf.files import understood
from pnil_tf.models import build_model, pnil_layer
from pnil_tf.pictures import learning_curves, pnil_maps
from pnil_tf.progress import Progress
from pnil_tf.runs.directory import RunDirectory
from pnil_tf.training.callbacks import (
    HistoryFile,
    InvalidLossError,
    KeepBest,
    SaveState,
    ShowProgress,
    StopOnInvalidLoss,
)
from pnil_tf.training.checkpoints import TrainingCheckpoints
from pnil_tf.training.guard import OverfittingGuard
from pnil_tf.training.lr_range import LRRange, lr_range_test, write_curve
from pnil_tf.training.model import AdversarialModel
from pnil_tf.training.schedules import OneCycle, Triangular
from pnil_tf.training.settings import TrainSettings, require
from pnil_tf.training.strategy import configure_precision, is_chief, make_strategy
from pnil_tf.version import __version__

logger = logging.getLogger(__name__)

_GUARD_IMAGES = 200
# What TensorFlow raises in a worker when another one ends.
_WORKER_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)
_PICTURED_IMAGES = 4
# Settings that may be said again with --resume, whatever they were: they touch no weight.
_FREE_ON_RESUME = {"resume", "overwrite", "runs_dir", "name", "data_dir", "data_source"}


def train(settings: TrainSettings, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Trains one classifier and leaves its run folder.

    Args:
        settings: Everything there is to say.
        given: With `--resume`, the settings said explicitly, by name: those of the existing run
            are taken, and an explicit one that differs is refused.

    Returns:
        The content of `run.json`.

    Raises:
        UserError: If the settings cannot be followed; before anything is loaded or written.
    """
    directory = RunDirectory(settings.run)
    resuming = settings.run.resume and directory.exists
    if settings.run.resume and not directory.exists:
        require(
            bool(set(given or {"dataset": ""}) - _FREE_ON_RESUME),
            f"There is no run {str(directory.path)!r} to go on with. Received: --resume. Check "
            "--name and --runs_dir, or say what to train.",
        )
        logger.info("There is no run %s yet: it is begun.", directory.path)
    record = directory.read() if resuming else {}
    if resuming:
        with understood(directory.description):
            settings = _continued(settings, record["settings"], given or {})
            if record["status"] == "finished":
                logger.info("The run %s is finished.", directory.path)
                _say_result(record)
                return record
    attack, strategy, data = _set_up(settings)
    if resuming:
        with understood(directory.description):
            _check_images(record, data)
    steps_per_epoch = len(data.train) // settings.optimization.batch_size
    chief = is_chief(strategy)
    if not resuming:
        record = _first_record(settings, data, strategy)
        if chief:
            directory.begin(record, _flagfile(settings))
    elif chief:
        directory.lock()

    if "max_lr" not in record:
        record["max_lr"] = settings.optimization.max_lr
        if record["max_lr"] == "auto":
            found = _range_test(settings, attack, strategy, data)
            record["max_lr"] = found.suggested_max
            if chief:
                write_curve(found, directory.path)
        if chief:
            directory.write(record)
    with understood(directory.description):
        max_lr = float(record["max_lr"])
    rate = _schedule(settings, max_lr, steps_per_epoch)
    model, accuracy = _compiled(settings, attack, strategy, data, rate)
    history, guard, kept = _fit(
        model, accuracy, settings, directory, record, data, steps_per_epoch, chief
    )
    if chief:
        _finish(directory, record, settings, data, history, guard, kept)
    return record


def _check_images(record: dict[str, Any], data: Dataset) -> None:
    """Refuses to go on with other images than those that the run was begun with."""
    before = record["data"]
    if data.sha256 != before["sha256"]:
        raise UserError(
            f"The run was begun with other images (from {record['data_source']}, "
            f"{before['counts']['train']} to train on). Received: those from "
            f"{data.source}, {len(data.train)} to train on. Say with --data_dir and "
            "--data_source where the first ones are."
        )


def find_learning_rate(settings: TrainSettings) -> tuple[LRRange, Path]:
    """Runs the LR range test of a training and writes its curve into `NAME_lr_range`.

    Returns:
        What was found, and the folder.

    Raises:
        UserError: If the settings cannot be followed.
    """
    attack, strategy, data = _set_up(settings)
    folder = Path(settings.run.runs_dir) / f"{settings.run.name}_lr_range"
    folder.mkdir(parents=True, exist_ok=True)
    found = _range_test(settings, attack, strategy, data)
    write_curve(found, folder)
    return found, folder


def _set_up(
    settings: TrainSettings,
) -> tuple[StepAttack | None, tf.distribute.Strategy, Dataset]:
    """Checks the settings, configures TensorFlow, and loads the images."""
    attack = _training_attack(settings)
    strategy = make_strategy(settings.device)
    _check_batch(settings, strategy)
    configure_precision(settings.device)
    keras.utils.set_random_seed(settings.optimization.seed)
    if settings.device.deterministic:
        tf.config.experimental.enable_op_determinism()
    data = load(settings.data)
    require(
        settings.optimization.batch_size <= len(data.train),
        f"A batch must not be larger than the training set of {len(data.train)} images. Received: "
        f"--batch_size={settings.optimization.batch_size}. Make it smaller.",
    )
    return attack, strategy, data


def _training_attack(settings: TrainSettings) -> StepAttack | None:
    """The training attack's settings; also checks the validation attack's name."""
    asked = settings.attack
    assert asked.epsilon is not None  # filled in by TrainSettings
    if asked.validation_attack != "none":
        step_attack(asked.validation_attack, asked.epsilon, norm=asked.norm)
    if asked.attack == "none":
        return None
    return step_attack(
        asked.attack,
        asked.epsilon,
        step_size=asked.step_size,
        norm=asked.norm,
        eot=EOT(asked.eot_samples),
        clip_start=asked.clip_start or None,
    )


def _check_batch(settings: TrainSettings, strategy: tf.distribute.Strategy) -> None:
    replicas, batch = strategy.num_replicas_in_sync, settings.optimization.batch_size
    require(
        batch % replicas == 0,
        f"The batch must divide over the {replicas} replicas. Received: --batch_size={batch}. Use "
        f"{max(batch // replicas, 1) * replicas}.",
    )
    images = settings.attack.validation_images
    require(
        images >= replicas,
        f"Each of the {replicas} replicas needs an image to validate. Received: "
        f"--validation_images={images}.",
    )


def _continued(
    settings: TrainSettings, stored: dict[str, dict[str, Any]], given: Mapping[str, Any]
) -> TrainSettings:
    """The stored run's settings, unless something was said that contradicts them."""
    before = {name: value for group in stored.values() for name, value in group.items()}
    for name, value in given.items():
        value = list(value) if isinstance(value, tuple) else value  # as JSON keeps it
        if name not in _FREE_ON_RESUME and value != before.get(name):
            raise UserError(
                f"The run was begun with --{name}={before.get(name)}. Received: --resume with "
                f"--{name}={value}. Leave the flag out, or begin another run with another --name."
            )
    size = stored["data"]["image_size"]
    data = {**stored["data"], "image_size": None if size is None else tuple(size)}
    free = {"data_dir": settings.data.data_dir, "data_source": settings.data.data_source}
    groups = {
        name: type(getattr(settings, name))(**stored[name])
        for name in ("model", "attack", "optimization", "device")
    }
    run = {**stored["run"], **{name: getattr(settings.run, name) for name in ("runs_dir", "name")}}
    run |= {"resume": True, "overwrite": False}
    return TrainSettings(
        data=DataSettings(**{**data, **{k: v for k, v in free.items() if k in given}}),
        run=type(settings.run)(**run),
        **groups,
    )


def _compiled(
    settings: TrainSettings,
    attack: StepAttack | None,
    strategy: tf.distribute.Strategy,
    data: Dataset,
    rate: Any,
) -> tuple[AdversarialModel, keras.metrics.Metric]:
    """Builds the model from the seed and compiles it, with `accuracy` as its one metric."""
    keras.utils.set_random_seed(settings.optimization.seed)
    with strategy.scope():
        model = _new_model(settings, attack, data)
        accuracy = keras.metrics.SparseCategoricalAccuracy("accuracy")
        model.compile(
            keras.optimizers.Adam(rate),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[accuracy],
            jit_compile={"auto": "auto", "true": True, "false": False}[settings.device.jit_compile],
        )
    return model, accuracy


def _range_test(
    settings: TrainSettings,
    attack: StepAttack | None,
    strategy: tf.distribute.Strategy,
    data: Dataset,
) -> LRRange:
    logger.info("LR range test ...")
    stream = training_stream(
        data.train, settings.optimization.batch_size, settings.optimization.seed
    )
    model, _ = _compiled(settings, attack, strategy, data, 1e-3)
    try:
        found = lr_range_test(model, stream)
    except UserError as error:  # its arguments are ours, so it is the training that failed
        raise RunFailedError(f"{error} Or pass --max_lr.") from error
    logger.info("LR range test: peak learning rate %.4g", found.suggested_max)
    return found


def _new_model(
    settings: TrainSettings, attack: StepAttack | None, data: Dataset
) -> AdversarialModel:
    layer = None
    if settings.model.pnil:
        layer = pnil_layer(settings.model.pnil_sigma, settings.model.pnil_per_channel)
        layer.noise_at_inference = settings.model.noise_at_inference
    classifier = build_model(
        str(settings.model.model),
        data.input_shape,
        data.num_classes,
        width=settings.model.width,
        pnil=layer,
    )
    # Without noise of its own a classifier has nothing to average over.
    noisy = settings.model.pnil and settings.model.noise_at_inference
    return AdversarialModel(
        classifier,
        "none" if attack is None else attack,
        settings.attack.epsilon,
        norm=settings.attack.norm,
        validation_attack=settings.attack.validation_attack,
        validation_eot_samples=settings.attack.validation_eot_samples if noisy else 1,
        clean_weight=settings.attack.clean_weight,
        seed=settings.optimization.seed,
    )


def _schedule(settings: TrainSettings, max_lr: float, steps_per_epoch: int) -> Any:
    optimization = settings.optimization
    if optimization.schedule == "constant":
        return max_lr
    if optimization.schedule == "one_cycle":
        return OneCycle(max_lr, max(optimization.epochs * steps_per_epoch, 2))
    min_lr = max_lr / 10 if optimization.min_lr is None else optimization.min_lr
    period = max(round(optimization.cycle_epochs * steps_per_epoch), 2)
    return Triangular(min_lr, max_lr, period)


def _fit(
    model: AdversarialModel,
    accuracy: keras.metrics.Metric,
    settings: TrainSettings,
    directory: RunDirectory,
    record: dict[str, Any],
    data: Dataset,
    steps_per_epoch: int,
    chief: bool,
) -> tuple[HistoryFile, OverfittingGuard | None, KeepBest]:
    """Trains, from the newest checkpoint on if there is one."""
    optimization = settings.optimization
    validation = data.validation.take(settings.attack.validation_images)
    adversarial = model.attack is not None and model.validation_attack is not None
    monitor = "val_adversarial_loss" if adversarial else "val_loss"
    history = HistoryFile(directory.history, chief)
    kept = KeepBest(directory.best, monitor, chief)
    guard = _guard(model, settings, data, directory, chief)
    stateful = {"history": history, "kept": kept} | ({} if guard is None else {"guard": guard})
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
    # The guard may put other weights in place: what was validated is kept before that.
    callbacks = [StopOnInvalidLoss(), kept, *([] if guard is None else [guard])]
    callbacks += [history, save]
    if progress is not None:
        callbacks.append(ShowProgress(progress, optimization.epochs))
    if settings.run.tensorboard and chief:
        callbacks.append(keras.callbacks.TensorBoard(str(directory.tensorboard)))
    replicas = model.distribute_strategy.num_replicas_in_sync
    validation_batch = min(optimization.batch_size, len(validation)) // replicas * replicas
    validation_data = batches(validation, validation_batch, drop_remainder=replicas > 1)

    def fit(first_epoch: int, epochs: int, steps: int) -> None:
        start = int(model.steps_taken.numpy())
        model.fit(
            training_stream(data.train, optimization.batch_size, optimization.seed, start),
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
            fit(epoch, epoch + 1, steps_per_epoch - done)
            epoch, stopped = epoch + 1, model.stop_training
        if epoch < optimization.epochs and not stopped:
            fit(epoch, optimization.epochs, steps_per_epoch)
    except _WORKER_LOST as error:
        if model.distribute_strategy.cluster_resolver is None:
            raise
        raise RunFailedError(
            f"A worker of this training is gone: {reason(error)}. The checkpoints "
            "are kept. Start all workers again with --resume."
        ) from error
    except InvalidLossError as error:
        best = _best_so_far(directory, record, kept) if chief else ""
        raise RunFailedError(
            f"{error} {best}Lower --max_lr, or let --max_lr=auto find it."
        ) from error
    if progress is not None:
        progress.close(f"{len(history.rows)} epochs")
    return history, guard, kept


def _best_so_far(directory: RunDirectory, record: dict[str, Any], kept: KeepBest) -> str:
    """Leaves the best classifier of a training that failed, and says where."""
    state = kept.get_state()
    if state["epoch"] is None:
        return ""
    directory.publish(state)
    directory.write({**record, "kept": state})
    return f"The best classifier, of epoch {state['epoch']}, is {str(directory.classifier)!r}. "


def _guard(
    model: AdversarialModel,
    settings: TrainSettings,
    data: Dataset,
    directory: RunDirectory,
    chief: bool,
) -> OverfittingGuard | None:
    if settings.attack.guard == "off" or model.attack is None:
        return None
    watched = data.validation.take(_GUARD_IMAGES)
    return OverfittingGuard(
        watched.images.astype(np.float32) / 255.0,
        watched.labels,
        action=settings.attack.guard,
        directory=directory.checkpoints,
        writes=chief,
    )


def _finish(
    directory: RunDirectory,
    record: dict[str, Any],
    settings: TrainSettings,
    data: Dataset,
    history: HistoryFile,
    guard: OverfittingGuard | None,
    kept: KeepBest,
) -> None:
    """Leaves the kept classifier, the pictures and the result."""
    started = time.monotonic()
    directory.publish(kept.get_state())
    classifier = keras.saving.load_model(directory.classifier, safe_mode=True)
    learning_curves(history.rows, directory.path / "learning_curves.png")
    if settings.model.pnil:
        pictured = data.test.take(_PICTURED_IMAGES).images.astype(np.float32) / 255.0
        pnil_maps(classifier, pictured, directory.path / "pnil_maps.png")
    seconds = [row["seconds"] for row in history.rows]
    images = len(data.train) // settings.optimization.batch_size * settings.optimization.batch_size
    record |= {
        "status": "finished",
        "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "kept": kept.get_state(),
        "guard_events": [] if guard is None else guard.events,
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
        )
    # Of all processes that worked on the run; the training's are in its history.
    after = time.monotonic() - started
    record["total_seconds"] = round(sum(seconds) + after, 1)
    directory.write(record)
    _say_result(record)
    logger.info("The run is in %s", directory.path)


def _first_record(
    settings: TrainSettings, data: Dataset, strategy: tf.distribute.Strategy
) -> dict[str, Any]:
    described = data.describe()
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
        "versions": {
            "pnil_tf": __version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "device": {
            "replicas": strategy.num_replicas_in_sync,
            "strategy": type(strategy).__name__,
            "gpus": [gpu.name for gpu in tf.config.list_physical_devices("GPU")],
            "machine": platform.machine(),
        },
        "settings": {
            field.name: dataclasses.asdict(getattr(settings, field.name))
            for field in dataclasses.fields(settings)
        },
    }


def _flagfile(settings: TrainSettings) -> str:
    """The flags that repeat the run, `--flagfile=PATH` (absl)."""
    lines = ["# python bin/train.py --flagfile=THIS_FILE --name=ANOTHER_NAME repeats this run."]
    for field in dataclasses.fields(settings):
        for name, value in dataclasses.asdict(getattr(settings, field.name)).items():
            if value is None or name in ("resume", "overwrite", "split_seed"):
                continue
            if isinstance(value, tuple):
                value = "x".join(str(side) for side in value)
            lines.append(f"--{name}={str(value).lower() if isinstance(value, bool) else value}")
    return "\n".join(lines) + "\n"


def _say_result(record: dict[str, Any]) -> None:
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
    print(
        f"epsilon {result['epsilon']:.4g} ({result['norm']}), {result['eot_samples']} EOT draws, "
        f"data source: {record['data_source']}"
    )
