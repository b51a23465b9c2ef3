"""For each class, where its loss rises on a grey image: renewed now and then in a training."""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from pnil_tf.contract.classifier import image_shape_of
from pnil_tf.errors import UserError
from pnil_tf.tensors import Images, Scalar, Tensor

_STEPS_BETWEEN = 20


class ClassDirections(keras.layers.Layer):
    """Keeps the signs of `pnil_tf.attacks.class_start.class_signs` between two renewals.

    They are state: a training that goes on from a checkpoint needs those that it had.

    Args:
        classifier: A built Keras model for images of one size.

    Raises:
        UserError: If its images have no known size.
    """

    def __init__(self, classifier: keras.Model) -> None:
        super().__init__(name="class_directions", trainable=False)
        shape = tuple(image_shape_of(classifier))
        if None in shape:
            raise UserError(
                "An attack that starts from a direction for each class needs images of one size. "
                f"Received: a classifier of images of the shape {shape}. Give its Input one."
            )
        classes = max(classifier.compute_output_shape((None, *shape))[-1], 2)
        self.signs = self.add_weight(
            shape=(classes, *shape),
            initializer="zeros",
            dtype="float32",
            trainable=False,
            aggregation="only_first_replica",  # they are the same on each
            name="signs",
        )
        self.built = True

    def renew(self, step: Scalar, compute: Callable[[], Tensor]) -> None:
        """Takes new signs at step 0 and every 20 steps.

        Args:
            step: Steps taken before this one, an integer.
            compute: Returns them, float32 `(classes, height, width, channels)`.
        """
        due = tf.equal(step % _STEPS_BETWEEN, 0)
        self.signs.assign(tf.cond(due, compute, lambda: tf.convert_to_tensor(self.signs)))

    def of(self, classes: Tensor) -> Images:
        """The signs of each image's class, float32 `(batch, height, width, channels)`.

        Args:
            classes: int32 `(batch,)`.
        """
        return tf.gather(tf.convert_to_tensor(self.signs), classes)
