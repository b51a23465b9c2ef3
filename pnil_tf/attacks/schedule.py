"""How many draws a gradient is averaged over, step by step, and over steps."""

from __future__ import annotations

import dataclasses
import math

import tensorflow as tf

from pnil_tf import rng
from pnil_tf.attacks.eot import EOT, Loss, Predict, eot_gradient
from pnil_tf.tensors import Images, Labels, Scalar, Seed

Phases = tuple[tuple[int, EOT], ...]
"""`(first step, draws)` of each phase, in order; the first begins at step 0."""


def draw_phases(eot: EOT, shares: tuple[tuple[float, float], ...], steps: int) -> Phases:
    """Turns shares of steps and draws into phases.

    Args:
        eot: The draws of a full step.
        shares: `((share of steps, share of draws), ...)`, see `AttackSettings.schedule`.
        steps: Steps in all.
    """
    phases: list[tuple[int, EOT]] = []
    before = 0.0
    for of_steps, of_draws in shares:
        draws = math.ceil(eot.draws * of_draws - 1e-9)
        if eot.antithetic:  # half a pair cancels nothing
            draws = min(draws + draws % 2, eot.draws)
        if not phases or phases[-1][1].draws != draws:
            # However few the steps, the last one is the last phase's.
            first = min(round(before * steps), steps - 1)
            phases.append((first, dataclasses.replace(eot, draws=draws)))
        before += of_steps
    return tuple(phases)


def scheduled_gradient(
    predict: Predict, loss: Loss, x: Images, y: Labels, seed: Seed, step: Scalar, phases: Phases
) -> Images:
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

    def gradient(eot: EOT) -> Images:
        return eot_gradient(predict, loss, x, y, step_seed, eot)[1]

    if len(phases) == 1:
        total = gradient(phases[0][1])
    else:
        begins = tf.constant([first for first, _ in phases[1:]], tf.int32)
        phase = tf.reduce_sum(tf.cast(step >= begins, tf.int32))
        total = tf.switch_case(phase, [lambda eot=eot: gradient(eot) for _, eot in phases])
        total.set_shape(x.shape)
    return tf.where(tf.math.is_finite(total), total, tf.zeros_like(total))


def running_mean(mean: Images, gradient: Images, momentum: float) -> Images:
    """Returns the mean of the gradients of a search after one more of them.

    Where steps are short, successive gradients differ by their noise more than by their place.
    Their mean has `(1 - momentum) / (1 + momentum)` of the noise's variance, at no cost: draws
    of earlier steps are used again. (Dong et al. 2018, "Boosting Adversarial Attacks with
    Momentum", use it to pass over small bumps.)

    Args:
        mean: The mean so far; zeros at the start. It is biased towards them, but it is its
            direction alone that an attack follows.
        gradient: The new gradient.
        momentum: Share of the past, in [0, 1); 0 forgets it.
    """
    return momentum * mean + (1.0 - momentum) * gradient if momentum else gradient
