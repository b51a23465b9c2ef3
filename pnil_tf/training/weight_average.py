"""The average of a classifier's weights over the steps of its training."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import keras
import tensorflow as tf

from pnil_tf.errors import UserError
from pnil_tf.tensors import Scalar


class WeightAverage(keras.layers.Layer):
    """Averages what a classifier learns: trainable weights and batch statistics alike.

    After step t the average of a weight is the mean of its values after the steps 1 to t, where a
    value i steps ago counts `decay ** i`: an exponential moving average without the bias that
    its start would bring (Izmailov et al. 2018, "Averaging weights leads to wider optima"; Kingma
    and Ba 2015, section 3). It follows from the number of the step alone, so a resumed training
    repeats it bit for bit, and on several replicas it is the same on each.

    Its variables are the averages, in float32 at least. Weights that are no floating-point
    numbers have no average.

    Args:
        classifier: A built Keras model.
        decay: Between 0 and 1: 0.9995 averages over some 2,000 steps.

    Raises:
        UserError: If the classifier has no weights yet.
    """

    def __init__(self, classifier: keras.Model, decay: float) -> None:
        super().__init__(name="weight_average", trainable=False)
        if not classifier.built:
            raise UserError(
                "Weights can be averaged once they exist. Received: a classifier that is not "
                "built. Begin it with a keras.Input, or call it on images first."
            )
        self.decay = decay
        live = [w for w in classifier.weights if w.dtype.startswith(("float", "bfloat"))]
        # Behind a function: Keras would take them for this layer's own.
        self._live = lambda: live
        self.averages = [
            self.add_weight(
                shape=weight.shape,
                initializer="zeros",
                dtype=weight.dtype if weight.dtype == "float64" else "float32",
                trainable=False,
                aggregation="only_first_replica",  # they are the same on each
                name=f"average_{i}",
            )
            for i, weight in enumerate(live)
        ]
        self.built = True

    def update(self, steps: Scalar) -> None:
        """Takes in the weights as they are after a step.

        Args:
            steps: Steps taken, this one included; an integer scalar.
        """
        # 1 - decay ** steps, without the rounding of a difference of almost equal numbers.
        weight_of_all = -tf.math.expm1(tf.cast(steps, tf.float32) * math.log(self.decay))
        share = (1.0 - self.decay) / weight_of_all
        for average, weight in zip(self.averages, self._live(), strict=True):
            value = tf.cast(weight, average.dtype)
            average.assign_add(tf.cast(share, average.dtype) * (value - average))

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the classifier's weights are their averages."""
        live = [weight.numpy() for weight in self._live()]
        for weight, average in zip(self._live(), self.averages, strict=True):
            weight.assign(average.numpy())
        try:
            yield
        finally:
            for weight, value in zip(self._live(), live, strict=True):
                weight.assign(value)
