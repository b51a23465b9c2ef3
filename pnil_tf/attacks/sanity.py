"""The two attacks that any stronger attack must beat: one gradient step, and mere noise."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from pnil_tf.attacks.eot import EOT, Loss, Predict
from pnil_tf.attacks.one_step import craft, random_start, step_attack


def fgsm(
    predict: Predict,
    loss: Loss,
    x: Any,
    y: Any,
    seed: Any,
    *,
    epsilon: float,
    norm: str,
    eot: EOT,
    clip_min: float,
    clip_max: float,
) -> Any:
    """Returns `x` after one step of length `epsilon` (Goodfellow et al. 2015).

    Args:
        predict: The classifier.
        loss: Loss per example that the attack makes large.
        x: float32 images `(batch, ...)`.
        y: int labels `(batch,)`.
        seed: int32 seed pair of the draws.
        epsilon: Length of the step.
        norm: `"linf"` or `"l2"`.
        eot: Draws of the gradient.
        clip_min: Smallest pixel.
        clip_max: Largest pixel.
    """
    attack = step_attack("fgsm", epsilon, norm=norm, eot=eot, clip_min=clip_min, clip_max=clip_max)
    return craft(predict, loss, x, y, seed, attack)


def uniform_noise(
    x: Any, seed: Any, *, epsilon: float, norm: str, clip_min: float, clip_max: float
) -> Any:
    """Returns a random point, uniform in the ball around `x` and then clipped to the range.

    Args:
        x: float32 images `(batch, ...)`.
        seed: int32 seed pair.
        epsilon: Radius of the ball.
        norm: `"linf"` or `"l2"`.
        clip_min: Smallest pixel.
        clip_max: Largest pixel.
    """
    # The start of RFGSM, whose size is epsilon.
    attack = step_attack("rfgsm", epsilon, norm=norm)
    moved = x + random_start(tf.shape(x), seed, attack)
    return tf.clip_by_value(moved, clip_min, clip_max)
