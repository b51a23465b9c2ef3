"""A start that knows the label: where the loss of a class rises on a grey image, and noise."""

from __future__ import annotations

import tensorflow as tf

from pnil_tf import rng
from pnil_tf.attacks.eot import EOT, Loss, Predict, eot_gradient
from pnil_tf.tensors import Images, Labels, Seed, Tensor

_GREY = 0.5


def class_signs(
    predict: Predict, loss: Loss, labels: Labels, image_shape: tuple[int, int, int], seed: Seed
) -> Tensor:
    """Returns the sign of the loss's gradient on a grey image, for each of some labels.

    Args:
        predict: The classifier, see `pnil_tf.attacks`, of pixels in [0, 1].
        loss: Loss per example.
        labels: One label of each class, as `loss` takes them.
        image_shape: `(height, width, channels)`.
        seed: int32 seed pair of the classifier's noise.

    Returns:
        float32 `(classes, height, width, channels)`: -1, 1, or 0 where the loss is flat.
    """
    grey = tf.fill([tf.shape(labels)[0], *image_shape], _GREY)
    return tf.sign(eot_gradient(predict, loss, grey, labels, seed, EOT())[1])


def mixed_start(signs: Images, seed: Seed, size: float) -> Images:
    """Returns the displacement from which an attack starts, float32, shaped like `signs`.

    Each value is, with equal chances, `size` times its sign or uniform in [-size, size).

    Args:
        signs: Those of each image's class, `(batch, height, width, channels)`.
        seed: int32 seed pair.
        size: Radius of the start, > 0.
    """
    shape = tf.shape(signs)
    noise = rng.uniform(shape, rng.fold(seed, 0), size)
    return tf.where(rng.uniform(shape, rng.fold(seed, 1)) < 0.0, size * signs, noise)
