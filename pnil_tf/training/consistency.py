"""A loss between what a classifier says of an attack's start and of its end."""

from __future__ import annotations

import tensorflow as tf

from pnil_tf.tensors import PerImage, Tensor


def consistency_terms(start: Tensor, end: Tensor, weight: float) -> PerImage:
    """Returns `weight` times the mean squared difference of the logits, float32 `(batch,)`.

    One-step training collapses where a network bends the loss between the random start and the
    place to which the step leads: this makes such bends dear (after Jia et al. 2022,
    "Prior-guided adversarial initialization for fast adversarial training"). The start's logits
    are those that the attack has computed anyway, and count as given: no gradient goes through
    them, so that the term costs no further pass.

    Args:
        start: Logits at the start, float32 `(batch, count)`.
        end: Logits of the adversarial images, float32 `(batch, count)`.
        weight: At least 0.
    """
    return weight * tf.reduce_mean(tf.square(end - tf.stop_gradient(start)), axis=1)
