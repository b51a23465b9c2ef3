"""Noise that follows what surrounds a pixel, wherever in the image that is."""

from __future__ import annotations

from typing import Any

import keras

from pnil_tf.tensors import Tensor
from pnil_tf.validation import require


@keras.saving.register_keras_serializable(package="pnil_tf")
class ConvLogVariance(keras.layers.Layer):
    """Computes log-variances by two small convolutions: the `log_variance` of a `PNILLayer`.

    `W` and `B` of the paper's layer are one number for each position. Convolutions share theirs
    over positions, so that an image that is shifted takes its noise with it (except at the
    border, which is padded with zeros). The paper names noise that is computed from its context
    as an outlook (Schwinn, Raab and Eskofier, arXiv:2002.10097).

    It starts at zero everywhere, hence the noise with the `initial_sigma` of its layer. Computed
    in float32 under every dtype policy.

    Args:
        filters: Channels between the two, >= 1.
        kernel_size: Rows and columns that each sees, >= 1.
        **kwargs: As for `keras.layers.Layer`.

    Call arguments:
        x: Images `(batch, height, width, channels)`.

    Returns:
        float32, of the shape of `x`.

    Raises:
        UserError: If `filters` or `kernel_size` is not valid.

    Examples:
        >>> layer = PNILLayer(initial_sigma=0.25, log_variance=ConvLogVariance())
        >>> layer(tf.zeros((2, 28, 28, 1))).shape
        TensorShape([2, 28, 28, 1])
    """

    def __init__(self, filters: int = 8, kernel_size: int = 5, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        for name, value in (("filters", filters), ("kernel_size", kernel_size)):
            require(
                isinstance(value, int) and not isinstance(value, bool) and value >= 1,
                f"A convolution needs {name}, a whole number of at least 1. Received: {value!r}.",
            )
        self.filters, self.kernel_size = filters, kernel_size

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the two convolutions."""
        options = {"kernel_size": self.kernel_size, "padding": "same", "dtype": "float32"}
        self.inner = keras.layers.Conv2D(self.filters, activation="relu", **options)
        self.outer = keras.layers.Conv2D(input_shape[-1], kernel_initializer="zeros", **options)
        self.inner.build(input_shape)
        self.outer.build((*input_shape[:-1], self.filters))
        self.built = True

    def call(self, x: Tensor) -> Tensor:
        """Returns the log-variances."""
        return self.outer(self.inner(x))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that rebuild the layer."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
        }
