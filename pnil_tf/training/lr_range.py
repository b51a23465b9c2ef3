"""The learning rate range test (Smith 2017, arXiv:1506.01186, section 3.3)."""

from __future__ import annotations

import csv
import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from pnil_tf.drawing import own_style
from pnil_tf.errors import UserError
from pnil_tf.files import replacing
from pnil_tf.keras_internals import exempt_alike
from pnil_tf.tensors import Scalar
from pnil_tf.training.types import Config, EpochLogs, Rate

# Less of the loss than this is left once the images have been learned by heart.
_LEARNED = 0.1


class UndecidedError(UserError):
    """The curve of a range test says nothing about the learning rate."""


@dataclasses.dataclass(frozen=True)
class LRRange:
    """What a range test measured.

    Args:
        lrs: Learning rates in rising order, one per measured step.
        losses: Training loss at each of them.
        smoothed: Exponential moving average of `losses`, corrected for its start at 0.
        suggested_min: Lower bound for a cyclical rate, a tenth of `suggested_max`.
        suggested_max: Upper bound for a cyclical rate, or the peak of a one-cycle rate.
    """

    lrs: list[float]
    losses: list[float]
    smoothed: list[float]
    suggested_min: float
    suggested_max: float


def lr_range_test(
    model: keras.Model,
    dataset: tf.data.Dataset,
    min_lr: float = 1e-5,
    max_lr: float = 1.0,
    steps: int = 200,
    smoothing: float = 0.9,
    diverged: float = 2.0,
    safety: float = 10.0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> LRRange:
    """Trains for some steps while the learning rate grows, and watches the loss.

    The rate grows by the same factor at every step. The test ends early when the loss is not
    finite or its moving average exceeds `diverged` times the lowest so far. The suggested
    maximum is the rate at which the moving average was lowest, divided by `safety`: beyond the
    lowest point the loss no longer profits from a larger rate, and the average, which lags
    behind the loss, finds that point late. The suggested minimum is a tenth of the maximum
    (Smith takes a third to a quarter; Adam tolerates more).

    Few images are learned by heart before the rate becomes large, and then the lowest point says
    only when that was: where less than a tenth of the loss is left, the suggested maximum is
    instead the rate at which the loss fell by the largest share of itself per step.

    An attack that grows over the first steps (`epsilon_warmup_steps`) has its full size here: the
    test is shorter than that, and the rate is largest when the attack has grown.

    The caller loses nothing: the test trains with a copy of the compiled optimizer, and all
    variables of the model (weights, moving statistics, states of random layers) get their
    values back, also after an error. The metrics are reset, as by `fit`.

    Args:
        model: A compiled Keras model whose variables exist, for example an `AdversarialModel`.
            Under a distribution strategy the test runs on all replicas.
        dataset: Batches as for `model.fit`; repeated if there are fewer than `steps`.
        min_lr: The rate of the first step, > 0.
        max_lr: The rate of the last step, larger than `min_lr`.
        steps: Number of steps, at least 10.
        smoothing: Share of the past in the moving average, in [0, 1).
        diverged: See above; larger than 1.
        safety: See above; at least 1.
        callbacks: Further ones for its training, to show how far it is for example.

    Raises:
        UndecidedError: If the loss never fell (by a hundredth at least, and by more than it differs
            from batch to batch), so that the curve decides nothing.
        UserError: If an argument is not valid or the model is not ready.
    """
    if not isinstance(dataset, tf.data.Dataset):
        raise UserError(
            "The range test takes images and labels together, as a tf.data.Dataset in batches. "
            f"Received: dataset of the type {type(dataset).__name__}. Pass, for arrays, "
            "tf.data.Dataset.from_tensor_slices((x, y)).batch(32)."
        )
    _check(model, min_lr, max_lr, steps, smoothing, diverged, safety)
    growth = (max_lr / min_lr) ** (1.0 / (steps - 1))
    probe = _Probe(min_lr, growth, smoothing, diverged)
    optimizer, variables = model.optimizer, model.variables
    values = [variable.numpy() for variable in variables]
    history, stop = getattr(model, "history", None), model.stop_training
    warmup = getattr(model, "epsilon_warmup_steps", None)
    try:
        with model.distribute_strategy.scope():
            model.optimizer = _with_rate(optimizer, _Exponential(min_lr, growth))
            model.optimizer.build(model.trainable_variables)
        model.train_function = None  # it was compiled around the caller's optimizer
        if warmup:
            model.epsilon_warmup_steps = 0
        model.fit(
            dataset.repeat(),
            steps_per_epoch=steps,
            callbacks=[probe, *callbacks],
            shuffle=False,
            verbose=0,
        )
    finally:
        model.optimizer, model.train_function = optimizer, None
        model.history, model.stop_training = history, stop
        if warmup:
            model.epsilon_warmup_steps = warmup
        with model.distribute_strategy.scope():
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        model.reset_metrics()
    return _judge(probe, safety)


@own_style()
def write_curve(result: LRRange, directory: str | os.PathLike[str]) -> None:
    """Writes `lr_range.csv` (a row per step) and `lr_range.png` into `directory`."""
    from matplotlib.figure import Figure  # slow to import, and rarely needed

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with (
        replacing(directory / "lr_range.csv") as path,
        path.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["learning_rate", "loss", "smoothed_loss"])
        writer.writerows(zip(result.lrs, result.losses, result.smoothed, strict=True))

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(result.lrs, result.losses, color="0.75", linewidth=1, label="each step")
    axes.plot(result.lrs, result.smoothed, color="tab:blue", linewidth=2, label="moving average")
    axes.axvspan(
        result.suggested_min,
        result.suggested_max,
        color="tab:green",
        alpha=0.2,
        label=f"suggested: {result.suggested_min:.2g} to {result.suggested_max:.2g}",
    )
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss")
    # A diverging end would press everything of interest flat.
    low, start = min(result.smoothed), result.smoothed[0]
    axes.set_ylim(max(0.0, low - 0.3 * (start - low)), start + 0.5 * (start - low))
    axes.legend(loc="lower left", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    with replacing(directory / "lr_range.png") as path:
        figure.savefig(path, format="png", dpi=150)


class _Exponential(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, first: float, growth: float) -> None:
        self.first, self.growth = first, growth

    def __call__(self, step: Scalar) -> Scalar:
        return self.first * self.growth ** tf.cast(step, tf.float32)

    def get_config(self) -> Config:
        return {"first": self.first, "growth": self.growth}


class _Probe(keras.callbacks.Callback):
    """Records the loss of every step, not of the epoch so far, and ends the test."""

    def __init__(self, first: float, growth: float, smoothing: float, diverged: float) -> None:
        super().__init__()
        self.first, self.growth = first, growth
        self.smoothing, self.diverged = smoothing, diverged
        self.lrs: list[float] = []
        self.losses: list[float] = []
        self.smoothed: list[float] = []
        self._average = 0.0

    def on_train_batch_begin(self, batch: int, logs: EpochLogs = None) -> None:
        self.model.reset_metrics()

    def on_train_batch_end(self, batch: int, logs: EpochLogs = None) -> None:
        loss = float((logs or {})["loss"])
        if not math.isfinite(loss):
            self.model.stop_training = True
            return
        self._average = self.smoothing * self._average + (1.0 - self.smoothing) * loss
        self.lrs.append(self.first * self.growth**batch)
        self.losses.append(loss)
        self.smoothed.append(self._average / (1.0 - self.smoothing ** len(self.losses)))
        if self.smoothed[-1] > self.diverged * min(self.smoothed):
            self.model.stop_training = True


def _with_rate(optimizer: keras.optimizers.Optimizer, rate: Rate) -> keras.optimizers.Optimizer:
    """Returns a fresh copy of an optimizer that follows another learning rate."""
    config = optimizer.get_config()
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        inner = _with_rate(optimizer.inner_optimizer, rate)
        return type(optimizer)(
            inner,
            initial_scale=config["initial_scale"],
            dynamic_growth_steps=config["dynamic_growth_steps"],
        )
    copy = type(optimizer).from_config({**config, "learning_rate": rate})
    exempt_alike(copy, optimizer)
    return copy


def _judge(probe: _Probe, safety: float) -> LRRange:
    smoothed = probe.smoothed
    lowest = int(np.argmin(smoothed)) if smoothed else 0
    # A hundredth is less than one batch differs from the next in any training.
    if not lowest or smoothed[0] - smoothed[lowest] < max(
        0.01 * abs(smoothed[0]), _scatter(probe.losses[: lowest + 1])
    ):
        raise UndecidedError(
            "The loss never fell in the learning rate range test, so no rate can be suggested. "
            f"Received: losses {[round(loss, 3) for loss in probe.losses[:5]]} at the start. Begin "
            "with a smaller min_lr, take more steps, or check the data and the loss."
        )
    if 0.0 < smoothed[lowest] < _LEARNED * smoothed[0]:
        suggested = _steepest(probe.lrs[: lowest + 1], probe.losses[: lowest + 1])
    else:
        suggested = probe.lrs[lowest] / safety
    return LRRange(probe.lrs, probe.losses, smoothed, suggested / 10.0, suggested)


def _scatter(losses: list[float]) -> float:
    """The standard deviation from batch to batch, free of any slow rise or fall."""
    return float(np.std(np.diff(losses)) / math.sqrt(2.0)) if len(losses) > 2 else 0.0


def _steepest(lrs: list[float], losses: list[float]) -> float:
    """The rate at which the logarithm of the loss falls fastest.

    Means over a window that looks ahead as far as back lag behind nothing, unlike the moving
    average; of losses, not of their logarithms, so that a single tiny loss carries no weight.
    """
    length = max(5, len(losses) // 10)
    window = np.ones(length) / length
    heights = np.log(np.maximum(np.convolve(losses, window, "valid"), 1e-30))
    middle = np.convolve(np.log(lrs), window, "valid")
    return float(np.exp(middle[int(np.argmin(np.gradient(heights)))]))


def _check(
    model: keras.Model,
    min_lr: float,
    max_lr: float,
    steps: int,
    smoothing: float,
    diverged: float,
    safety: float,
) -> None:
    if not (0.0 < min_lr < max_lr and math.isfinite(max_lr)):
        raise UserError(
            "The range test needs 0 < min_lr < max_lr. Received: "
            f"min_lr={min_lr!r}, max_lr={max_lr!r}."
        )
    if not isinstance(steps, int) or steps < 10:
        raise UserError(f"The range test needs at least 10 steps. Received: {steps!r}.")
    if not 0.0 <= smoothing < 1.0:
        raise UserError(f"smoothing lies in [0, 1). Received: {smoothing!r}.")
    if not (diverged > 1.0 and safety >= 1.0):
        raise UserError(
            "The range test needs diverged > 1 and safety >= 1. Received: "
            f"diverged={diverged!r}, safety={safety!r}."
        )
    if not model.compiled:
        raise UserError(
            f"The range test trains the model. Received: {model.name!r}, which is not compiled. "
            "Call model.compile first."
        )
    if not model.weights:
        raise UserError(
            f"The range test saves the model's weights. Received: {model.name!r}, which has none "
            "yet. Give the classifier an Input, or call it on one batch first."
        )
