"""The loss that a training's attack raises: the user's, with a slope for every image."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from pnil_tf.attacks.losses import FAINT, away
from pnil_tf.contract.outputs import PROBABILITIES, Outputs
from pnil_tf.errors import UserError
from pnil_tf.logs import errors_only
from pnil_tf.tensors import Logits, PerImage, Tensor
from pnil_tf.training.labels import Labels

_TRIES = 16
_OF_SOFTMAX = {"categorical_crossentropy", "sparse_categorical_crossentropy"}

Loss = Callable[[Tensor, Tensor], PerImage]


def attacked_loss(loss: Loss, outputs: Outputs, labels: Labels) -> Loss:
    """Returns `(labels, outputs) -> losses (batch,)`, as `loss`, for `eot_gradient`.

    Losses clip probabilities, and probabilities underflow: where the classifier is sure, the slope
    of the true class' logit is zero, and an attack that followed it would leave the image alone.
    There the slope's direction is that of the cross-entropy.

    Args:
        loss: `(labels, outputs) -> float32 (batch,)`.
        outputs: What the classifier answers.
        labels: How its labels are read.
    """
    coupled = outputs.kind == PROBABILITIES or labels.loss in _OF_SOFTMAX

    def attacked(true: Tensor, logits: Logits) -> PerImage:
        @tf.custom_gradient
        def losses(logits: Logits) -> PerImage:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(logits)
                values = loss(true, outputs.activation(logits))
            slope = tape.gradient(values, logits, unconnected_gradients="zero")
            slope = _with_direction(slope, logits, labels.classes(true), coupled)
            return values, lambda upstream: upstream[:, tf.newaxis] * slope

        return losses(logits)

    return attacked


@errors_only("tensorflow")  # each loss is a graph of its own, and rightly so
def check_slope(loss: Loss, outputs: Outputs) -> None:
    """Refuses a loss that does not depend on the classifier's answers, or by steps alone.

    Args:
        loss: `(labels, outputs) -> float32 (batch,)`.
        outputs: What the classifier answers.

    Raises:
        UserError: If so.
    """
    generator = np.random.default_rng(0)
    logits = tf.constant(generator.normal(size=(_TRIES, outputs.count)), tf.float32)
    classes = generator.integers(0, outputs.classes, _TRIES)
    slopes = []
    for true in (classes, np.eye(outputs.classes, dtype=np.float32)[classes]):
        # One of the two is not what the loss takes.
        with contextlib.suppress(Exception):
            slopes.append(_slope(loss, outputs, tf.constant(true), logits))
    if slopes and not any(np.any(slope) for slope in slopes if slope is not None):
        raise UserError(
            "The loss has no slope, so no attack can follow it: it counts, rounds or compares, or "
            "does not look at the classifier's answers. Use a cross-entropy, and give what counts "
            "as a metric."
        )


def _slope(loss: Loss, outputs: Outputs, true: Tensor, logits: Logits) -> Logits:
    def slope(logits: Logits) -> Logits:
        return tf.gradients(loss(true, outputs.activation(logits)), logits)[0]

    return tf.function(slope, autograph=False)(logits)


def _with_direction(slope: Logits, logits: Logits, classes: PerImage, coupled: bool) -> Logits:
    """The slope `(batch, count)`, with a direction wherever it has none.

    Args:
        slope: Of the losses.
        logits: Where it was taken.
        classes: The true ones, int32 `(batch,)`.
        coupled: Whether the logits meet in a softmax: whatever else has a slope then, the true
            class has one, which rounding may have taken.
    """
    alive = size = tf.reduce_max(tf.abs(slope), axis=1, keepdims=True)
    if coupled and slope.shape[1] > 1:
        true = tf.one_hot(classes, slope.shape[1])
        alive = tf.reduce_sum(slope * true, axis=1, keepdims=True)
    finite = tf.math.is_finite(size)
    size = tf.where(finite, tf.maximum(size, FAINT), FAINT)
    return tf.where(finite & (alive != 0), slope, size * away(classes, logits))
