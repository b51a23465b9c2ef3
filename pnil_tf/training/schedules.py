"""Learning rates that rise and fall: functions of the optimizer's step and nothing else."""

from __future__ import annotations

import math
import numbers

import keras
import tensorflow as tf

from pnil_tf.errors import UserError
from pnil_tf.tensors import Scalar
from pnil_tf.training.types import Config


@keras.saving.register_keras_serializable(package="pnil_tf")
class Triangular(keras.optimizers.schedules.LearningRateSchedule):
    """The cyclical learning rate of Smith 2017 (arXiv:1506.01186), policy "triangular".

    The rate climbs from `min_lr` to `max_lr` in a straight line over the first half of a period
    and returns over the second, again and again. It starts at `min_lr`.

    Args:
        min_lr: Lower bound, >= 0.
        max_lr: Upper bound, > 0, at least `min_lr`.
        period_steps: Optimizer steps of a full cycle (Smith: twice his "stepsize"), at least 2.

    Raises:
        UserError: If an argument is not valid.

    Examples:
        >>> rate = Triangular(min_lr=0.1, max_lr=0.5, period_steps=8)
        >>> [round(float(rate(step)), 2) for step in (0, 2, 4, 6, 8)]
        [0.1, 0.3, 0.5, 0.3, 0.1]
    """

    def __init__(self, min_lr: float, max_lr: float, period_steps: int) -> None:
        _check_bounds(min_lr, max_lr)
        _check_steps("period_steps", period_steps)
        self.min_lr = min_lr
        self.max_lr = max_lr
        self.period_steps = period_steps

    def __call__(self, step: Scalar) -> Scalar:
        """Returns the rate (float32 scalar) of an optimizer step, counted from 0."""
        # The remainder is taken in integers: float32 cannot count beyond 2^24 steps.
        phase = tf.cast(tf.cast(step, tf.int64) % self.period_steps, tf.float32)
        height = 1.0 - tf.abs(2.0 * phase / self.period_steps - 1.0)
        return self.min_lr + (self.max_lr - self.min_lr) * height

    def get_config(self) -> Config:
        """Returns the arguments that rebuild the schedule."""
        return {
            "min_lr": self.min_lr,
            "max_lr": self.max_lr,
            "period_steps": self.period_steps,
        }


@keras.saving.register_keras_serializable(package="pnil_tf")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """One rise and one fall, both straight, over the whole training (Wong et al. 2020).

    The rate of step `s`, counted from 0, is the height at `s + 1` of the line through
    `(0, min_lr)`, `(warmup_fraction * total_steps, max_lr)` and `(total_steps, min_lr)`, and
    `min_lr` after that: with `min_lr=0` the first step already moves the weights.

    Args:
        max_lr: The peak, > 0, at least `min_lr`.
        total_steps: Optimizer steps of the training, at least 2.
        warmup_fraction: Share of the steps before the peak, strictly between 0 and 1. Wong et
            al. take 0.4 (2/5) on MNIST and 0.5 on CIFAR-10.
        min_lr: The rate at both ends, >= 0.

    Raises:
        UserError: If an argument is not valid.

    Examples:
        >>> rate = OneCycle(max_lr=1.0, total_steps=10)
        >>> [round(float(rate(step)), 2) for step in (0, 3, 6, 9)]
        [0.25, 1.0, 0.5, 0.0]
    """

    def __init__(
        self, max_lr: float, total_steps: int, warmup_fraction: float = 0.4, min_lr: float = 0.0
    ) -> None:
        _check_bounds(min_lr, max_lr)
        _check_steps("total_steps", total_steps)
        if not 0.0 < warmup_fraction < 1.0:
            raise UserError(
                "warmup_fraction is a share strictly between 0 and 1. Received: "
                f"{warmup_fraction!r}."
            )
        self.max_lr = max_lr
        self.total_steps = total_steps
        self.warmup_fraction = warmup_fraction
        self.min_lr = min_lr

    def __call__(self, step: Scalar) -> Scalar:
        """Returns the rate (float32 scalar) of an optimizer step, counted from 0."""
        part = (tf.cast(step, tf.float32) + 1.0) / self.total_steps
        rise = part / self.warmup_fraction
        fall = (1.0 - part) / (1.0 - self.warmup_fraction)
        height = tf.maximum(0.0, tf.minimum(rise, fall))
        return self.min_lr + (self.max_lr - self.min_lr) * height

    def get_config(self) -> Config:
        """Returns the arguments that rebuild the schedule."""
        return {
            "max_lr": self.max_lr,
            "total_steps": self.total_steps,
            "warmup_fraction": self.warmup_fraction,
            "min_lr": self.min_lr,
        }


def _check_bounds(min_lr: float, max_lr: float) -> None:
    numeric = all(isinstance(rate, numbers.Real) for rate in (min_lr, max_lr))
    if not (numeric and 0.0 <= min_lr <= max_lr and max_lr > 0.0 and math.isfinite(max_lr)):
        raise UserError(
            "A learning rate needs 0 <= min_lr <= max_lr and max_lr > 0. Received: "
            f"min_lr={min_lr!r}, max_lr={max_lr!r}."
        )


def _check_steps(name: str, steps: int) -> None:
    if not isinstance(steps, int) or steps < 2:
        raise UserError(f"{name} is a whole number of at least 2. Received: {steps!r}.")
