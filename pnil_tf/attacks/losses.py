"""What an attack makes large: a loss for each example, from labels and logits.

All take integer labels `(batch,)` and logits `(batch, classes)` and return float32 losses
`(batch,)`.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from cleverhans.tf2.attacks.spsa import margin_logit_loss

from pnil_tf.attacks.eot import Loss, cross_entropy
from pnil_tf.errors import UserError
from pnil_tf.tensors import Labels, Logits, PerImage, Tensor
from pnil_tf.validation import require_known
from pnil_tf.vocabulary import LOSSES

FAINT = 2.0**-60
"""Size of a slope that stands for none: beside another draw's it counts for nothing."""
_LARGEST_LOGIT = 1e4


def margin(labels: Labels, logits: Logits) -> PerImage:
    """The largest other logit minus the label's; positive where the prediction is wrong.

    Unlike cross-entropy it does not saturate when the model is sure (Carlini and Wagner 2017,
    "Towards Evaluating the Robustness of Neural Networks"; computed by Cleverhans).
    """
    logits = tf.cast(logits, tf.float32)
    # Cleverhans leaves the label out by taking 99,999 from its logit. Larger logits, a way to
    # hide from attacks, must be brought below that.
    size = tf.reduce_max(tf.abs(logits), axis=-1, keepdims=True)
    scale = tf.stop_gradient(tf.maximum(size / _LARGEST_LOGIT, 1.0))
    classes = tf.shape(logits)[-1] if logits.shape[-1] is None else logits.shape[-1]
    return scale[:, 0] * margin_logit_loss(logits / scale, labels, nb_classes=classes)


def dlr(labels: Labels, logits: Logits) -> PerImage:
    """Difference of logits ratio: the margin over the gap of the largest to the third logit.

    It is invariant to the scale and the shift of the logits, so that no large scale can hide
    the gradient (Croce and Hein 2020, "Reliable Evaluation of Adversarial Robustness").

    Raises:
        UserError: If there are fewer than 3 classes.
    """
    top = _top(logits, 3)
    return margin(labels, logits) / (top[:, 0] - top[:, 2] + 1e-12)


def _targeted_dlr(targets: Labels, logits: Logits) -> PerImage:
    # Croce and Hein measure the target against the true class. Only the target is known
    # here, so it is measured against the strongest of the others, which must yield anyway.
    return -margin(targets, logits) / _scale(logits)


def scale_free_margin(labels: Labels, logits: Logits, targeted: bool = False) -> PerImage:
    """`dlr`; for two classes, where no third logit gives a scale, the margin.

    Args:
        labels: Integer labels `(batch,)`.
        logits: `(batch, classes)`.
        targeted: Whether the labels are classes to reach.
    """
    if targeted:
        return _targeted_dlr(labels, logits)
    return margin(labels, logits) if _classes(logits) == 2 else dlr(labels, logits)


def gap(pairs: Labels, logits: Logits) -> PerImage:
    """By how much a target's logit lies above the label's.

    Args:
        pairs: int `(batch, 2)`, the true class and the target.
        logits: `(batch, classes)`.
    """
    of_label, of_target = (
        tf.gather(tf.cast(logits, tf.float32), pairs[:, i], batch_dims=1) for i in (0, 1)
    )
    return of_target - of_label


def targeted_dlr(pairs: Labels, logits: Logits) -> PerImage:
    """The gap of a target's logit to the label's, over that of the largest logit to the next.

    Croce and Hein 2020, equation 7: `(z_t - z_y) / (z_1 - (z_3 + z_4) / 2)`, with the logits in
    descending order in the denominator. Of three classes the third stands for the fourth, too;
    two leave no scale, and the gap alone is taken.

    Args:
        pairs: int `(batch, 2)`, the true class and the target.
        logits: `(batch, classes)`.
    """
    return gap(pairs, logits) / _scale(logits)


def _scale(logits: Logits) -> Tensor:
    """The denominator of the targeted DLR, `(batch,)`; 1 for two classes."""
    classes = _classes(logits)
    if classes == 2:
        return tf.constant(1.0)
    top = _top(logits, min(classes or 4, 4))
    return top[:, 0] - (top[:, 2] + top[:, -1]) / 2 + 1e-12


def wrong(labels: Labels, logits: Logits) -> PerImage:
    """1 where the prediction is another class than the label, or none at all, else 0.

    A classifier that answers with NaN or infinity has not recognised the image.
    """
    logits = tf.cast(logits, tf.float32)
    best = tf.argmax(logits, axis=-1, output_type=labels.dtype)
    return tf.cast((best != labels) | ~_finite(logits), tf.float32)


def told(loss: Loss) -> Loss:
    """Returns a loss that has a second column: whether the logits are finite, `(batch, 2)`.

    Where they are not, the first is 0, as on the boundary, and has no slope. So means over draws of
    which some are not finite stay finite; `as_judged` reads them.
    """

    def both(labels: Labels, logits: Logits) -> Tensor:
        finite = _finite(logits)
        values = loss(labels, tf.where(finite[:, tf.newaxis], logits, 0.0))
        return tf.stack([tf.where(finite, values, 0.0), tf.cast(finite, tf.float32)], axis=1)

    return both


def as_judged(means: Tensor, targeted: bool = False) -> PerImage:
    """Returns the loss of which `told` has the means over draws: infinite where none was finite.

    As the judge counts, that is the best that can happen to an attack, and the worst to one that
    has a class to reach.
    """
    return tf.where(means[:, 1] > 0, means[:, 0], -np.inf if targeted else np.inf)


def _finite(logits: Logits) -> Tensor:
    return tf.reduce_all(tf.math.is_finite(logits), axis=-1)


def _classes(logits: Logits) -> int | None:
    classes: int | None = logits.shape[-1]
    return classes


def _top(logits: Logits, count: int) -> Tensor:
    classes = logits.shape[-1]
    if classes is not None and classes < count:
        raise UserError(
            f"The loss 'dlr' needs at least {count} classes here. Received: {classes} classes. "
            "Use the loss 'margin'."
        )
    return tf.math.top_k(tf.cast(logits, tf.float32), count).values


def _negated(loss: Loss) -> Loss:
    return lambda labels, logits: -loss(labels, logits)


def away(classes: PerImage, logits: Logits) -> Logits:
    """The direction of the cross-entropy's slope, float32 `(batch, count)`.

    It is that slope without the factor by which it vanishes: the share of each other class among
    the others, and -1 for the true class.

    Args:
        classes: The true ones, int `(batch,)`.
        logits: float32 `(batch, count)`; one logit is that of class 1 of two.
    """
    count = tf.shape(logits)[1] if logits.shape[1] is None else logits.shape[1]
    if logits.shape[1] == 1:
        return 1.0 - 2.0 * tf.cast(classes, tf.float32)[:, tf.newaxis]
    true = tf.one_hot(classes, count)
    return tf.nn.softmax(tf.where(true > 0, -np.inf, logits)) - true


def unsaturated_cross_entropy(labels: Labels, logits: Logits) -> PerImage:
    """The cross-entropy, with a slope for every image.

    In float32 the slope of the true class' logit is 0 where the margin is above 17, and those of
    all are above 100: an attack would follow half of the gradient, or none.

    Args:
        labels: Classes, int `(batch,)`.
        logits: `(batch, classes)`.
    """

    @tf.custom_gradient
    def losses(logits: Logits) -> PerImage:
        direction = away(labels, logits)
        # The probability of the others; of the true class the direction is negative.
        rest = tf.reduce_sum(tf.where(direction < 0, 0.0, tf.nn.softmax(logits)), 1, keepdims=True)
        slope = tf.maximum(rest, FAINT) * direction
        return cross_entropy(labels, logits), lambda upstream: upstream[:, tf.newaxis] * slope

    return losses(tf.cast(logits, tf.float32))


_OF_NAME: dict[str, tuple[Loss, Loss]] = {
    "cross_entropy": (
        unsaturated_cross_entropy,
        _negated(unsaturated_cross_entropy),
    ),
    "margin": (margin, _negated(margin)),
    "dlr": (dlr, _targeted_dlr),
}


def attack_loss(name: str, targeted: bool = False) -> Loss:
    """Returns the loss that an attack makes large.

    Args:
        name: One of `LOSSES`.
        targeted: Whether the labels are classes to reach; otherwise they are to be left.

    Raises:
        UserError: If the name is unknown.
    """
    require_known("loss", name, LOSSES)
    return _OF_NAME[name][int(targeted)]
