"""Which classes a targeted attack tries, and in which order."""

from __future__ import annotations

import tensorflow as tf

from pnil_tf import rng
from pnil_tf.attacks.ball import DUALS
from pnil_tf.attacks.eot import EOT, Predict, eot_gradient, eot_loss
from pnil_tf.attacks.losses import gap
from pnil_tf.tensors import Images, Labels, Logits, PerImage, Seed, Tensor

# Classes whose gradients are looked at: those with the largest logits.
_CANDIDATES = 30


def by_logits(predict: Predict, x: Images, y: Labels, seed: Seed, eot: EOT, count: int) -> Tensor:
    """Returns the other classes in the order of their logits, largest first.

    Args:
        predict: The classifier.
        x: float32 images `(batch, ...)`.
        y: int32 labels `(batch,)`.
        seed: int32 seed pair.
        eot: Draws over which the logits are averaged.
        count: Classes wanted; where there are fewer, they come again.

    Returns:
        int32 `(batch, count)`.
    """
    return _cycled(_largest(_logits(predict, x, y, seed, eot), y), count)


def by_gradients(
    predict: Predict, x: Images, y: Labels, seed: Seed, eot: EOT, count: int, norm: str
) -> Tensor:
    """Returns the other classes in the order in which a straight way would reach them.

    Where the logits are linear, a class' boundary lies at the gap between its logit and the
    label's over the dual norm of the difference of their gradients; robust models are nearly
    linear over that distance (Melamed et al. 2024, "MALT Powers Up Adversarial Attacks"). The
    gradients of the classes with the largest logits are looked at.

    Args:
        predict: The classifier.
        x: float32 images `(batch, ...)`.
        y: int32 labels `(batch,)`.
        seed: int32 seed pair.
        eot: Draws over which logits and gradients are averaged.
        count: Classes wanted; where there are fewer, they come again.
        norm: Norm of the attack's radius.

    Returns:
        int32 `(batch, count)`.
    """
    logits = _logits(predict, x, y, rng.fold(seed, 0), eot)
    candidates = _largest(logits, y)[:, :_CANDIDATES]

    def distance(target: Labels) -> PerImage:
        pairs = tf.stack([y, target], axis=1)
        value, gradient = eot_gradient(predict, gap, x, pairs, rng.fold(seed, 1), eot)
        flat = tf.reshape(gradient, [tf.shape(x)[0], -1])
        reach = tf.norm(flat, ord=DUALS[norm], axis=1)
        return tf.where(tf.math.is_finite(reach) & (reach > 0), -value / reach, x.dtype.max)

    distances = tf.map_fn(
        distance,
        tf.transpose(candidates),
        fn_output_signature=tf.float32,
        parallel_iterations=1,
    )
    order = tf.argsort(tf.transpose(distances), axis=1, stable=True)
    return _cycled(tf.gather(candidates, order, batch_dims=1), count)


def _logits(predict: Predict, x: Images, y: Labels, seed: Seed, eot: EOT) -> Logits:
    return eot_loss(predict, lambda labels, logits: logits, x, y, seed, eot)


def _largest(logits: Logits, y: Labels) -> Tensor:
    """The classes other than the label, by their logits, int32 `(batch, classes - 1)`."""
    classes = logits.shape[-1]
    of_label = tf.one_hot(y, classes, on_value=True, off_value=False)
    others = tf.where(of_label, -logits.dtype.max, logits)
    return tf.argsort(others, axis=1, direction="DESCENDING", stable=True)[:, : classes - 1]


def _cycled(order: Tensor, count: int) -> Tensor:
    times = -(-count // order.shape[1])
    return tf.tile(order, [1, times])[:, :count]
