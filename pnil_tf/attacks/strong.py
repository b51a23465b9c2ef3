"""PGD with steps that start large and shrink.

A step of 2 eps/50 can hardly leave the basin in which it starts. Steps of a good part of eps
cross the ball several times, and shrinking, they still settle.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from cleverhans.tf2.utils import clip_eta

from pnil_tf.attacks.eot import Loss, Predict
from pnil_tf.attacks.one_step import NORMS, ascent
from pnil_tf.attacks.schedule import Phases, running_mean, scheduled_gradient


def shrinking_steps(
    predict: Predict,
    loss: Loss,
    x: Any,
    current: Any,
    mean: Any,
    y: Any,
    seed: Any,
    first: Any,
    count: Any,
    *,
    steps: int,
    epsilon: float,
    step_size: float,
    step_decay: float,
    momentum: float,
    norm: str,
    phases: Phases,
    clip_min: float,
    clip_max: float,
) -> tuple[Any, Any]:
    """Takes the steps `first` to `first + count - 1` of the search.

    Args:
        predict: The classifier.
        loss: Loss per example that the attack makes large.
        x: float32 images `(batch, ...)`, the centres of the balls.
        current: Images from which to go on.
        mean: Running mean of the gradients, shaped like `x`; zeros at the start.
        y: int labels `(batch,)`.
        seed: int32 seed pair of the whole search.
        first: Number of the first step, an int32 tensor.
        count: Steps to take, an int32 tensor.
        steps: Steps of the whole search.
        epsilon: Radius of the ball.
        step_size: Length of step 0.
        step_decay: Length of the last step over that of the first.
        momentum: Share of the past in the running mean of the gradients that is followed.
        norm: `"linf"` or `"l2"`.
        phases: Draws for each step.
        clip_min: Smallest pixel.
        clip_max: Largest pixel.

    Returns:
        The images reached and the running mean.
    """
    order = NORMS[norm]

    def body(i: Any, current: Any, mean: Any) -> tuple[Any, Any, Any]:
        gradient = scheduled_gradient(predict, loss, current, y, seed, i, phases)
        mean = running_mean(mean, gradient, momentum)
        progress = tf.cast(i, tf.float32) / max(steps - 1, 1)
        moved = current + ascent(mean, step_size * step_decay**progress, norm)
        moved = x + clip_eta(moved - x, order, epsilon)
        return i + 1, tf.clip_by_value(moved, clip_min, clip_max), mean

    _, current, mean = tf.while_loop(
        lambda i, *_: i < first + count, body, (first, current, mean), parallel_iterations=1
    )
    return current, mean
