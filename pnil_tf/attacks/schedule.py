"""How many draws a gradient is averaged over, step by step."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import tensorflow as tf

from pnil_tf import rng
from pnil_tf.attacks.eot import EOT, Loss, Predict, eot_gradient

Phases = tuple[tuple[int, EOT], ...]
"""`(first step, draws)` of each phase, in order; the first begins at step 0."""


def draw_phases(eot: EOT, shares: tuple[tuple[float, float], ...], steps: int) -> Phases:
    """Turns shares of steps and draws into phases.

    Args:
        eot: The draws of a full step.
        shares: `((share of steps, share of draws), ...)`, see `AttackSettings.schedule`.
        steps: Steps in all.
    """
    phases = []
    before = 0.0
    for of_steps, of_draws in shares:
        draws = math.ceil(eot.draws * of_draws - 1e-9)
        if eot.antithetic:  # half a pair cancels nothing
            draws = min(draws + draws % 2, eot.draws)
        phases.append((round(before * steps), dataclasses.replace(eot, draws=draws)))
        before += of_steps
    return tuple(phases)


def scheduled_gradient(
    predict: Predict, loss: Loss, x: Any, y: Any, seed: Any, step: Any, phases: Phases
) -> Any:
    """Returns the EOT gradient (float32, shaped like `x`) that belongs to a step.

    Where it is not finite it is 0: an overflow says nothing about a direction.

    Args:
        predict: The classifier.
        loss: Loss per example that the attack makes large.
        x: float32 images `(batch, ...)`.
        y: int labels `(batch,)`.
        seed: int32 seed pair of the whole search; the step's own is derived from it.
        step: The step's number, an int32 tensor.
        phases: The draws.
    """
    step_seed = rng.fold(seed, step)

    def gradient(eot: EOT) -> Any:
        return eot_gradient(predict, loss, x, y, step_seed, eot)[1]

    if len(phases) == 1:
        total = gradient(phases[0][1])
    else:
        begins = tf.constant([first for first, _ in phases[1:]], tf.int32)
        phase = tf.reduce_sum(tf.cast(step >= begins, tf.int32))
        total = tf.switch_case(phase, [lambda eot=eot: gradient(eot) for _, eot in phases])
        total.set_shape(x.shape)
    return tf.where(tf.math.is_finite(total), total, tf.zeros_like(total))
