"""The Pixelwise Noise Injection Layer (PNIL)."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.contract.pixel_range import PixelRange
from pnil_tf.errors import UserError
from pnil_tf.tensors import Tensor
from pnil_tf.vocabulary import INITIAL_SIGMA


@keras.saving.register_keras_serializable(package="pnil_tf")
class PNILLayer(keras.layers.Layer):
    """Adds Gaussian noise whose log-variance is a learned function of each input feature.

    The layer computes (equations 2 and 3 of Schwinn, Raab and Eskofier, "Towards Rapid and
    Robust Adversarial Training with One-Step Attacks", arXiv:2002.10097):

        Sigma = x * W + B                      (a LOG-variance, although called a variance there)
        output = x + N(0, 1) * exp(Sigma / 2)

    That is for pixels in [0, 1]. For another `pixel_range` both are computed in shares of the
    range, so that a layer means the same whatever its pixels are: with `u = (x - low) / width`,
    `Sigma = u * W + B` and `output = x + width * N(0, 1) * exp(Sigma / 2)`.

    Noise is drawn in training and at inference, afresh at every call; gradients reach the input,
    `W` and `B` through it. The output is not clipped. `pnil_tf.noise_scope` makes the noise
    repeatable.

    Two options leave the paper's layer for one whose robustness `pnil_tf.certify` proves best.
    Without a kernel (`W = 0`) each feature has a noise of its own that no image changes. With a
    `sigma_floor` the variance is `exp(Sigma) + sigma_floor ** 2`. `SensitivityRegularizer` makes
    training look for loud noise.

    W and B belong to positions: they help no image that is shifted. `log_variance` takes their
    place, a layer that computes the noise from what surrounds a pixel (the outlook of the paper),
    for example `ConvLogVariance()`: `Sigma = log(initial_sigma ** 2) + log_variance(u)`.

    Args:
        per_channel: If `True`, one weight and one bias for each channel (last axis) are shared
            over all positions. Otherwise each feature of the input has its own.
        kernel_initializer: Initializer of `W`. Zeros by default.
        bias_initializer: Initializer of `B`, in place of the start that `initial_sigma` says;
            the paper gives none.
        kernel_regularizer: Regularizer of `W`, or `None`.
        bias_regularizer: Regularizer of `B`, or `None`.
        kernel_constraint: Constraint of `W`, or `None`.
        bias_constraint: Constraint of `B`, or `None`.
        noise_at_inference: Whether noise is drawn when called with `training=False`. Switching
            it off makes predictions deterministic and leaves the method of the paper.
        initial_sigma: Standard deviation with which the noise starts, > 0, as a share of the
            pixel range.
        pixel_range: Smallest and largest value of a pixel, `(low, high)`.
        use_kernel: Whether the noise depends on the image by `W`. Without, `kernel` is `None`.
        sigma_floor: Standard deviation that the noise never falls below, >= 0 and below
            `initial_sigma`, as a share of the pixel range.
        log_variance: A Keras layer, or a model, that maps images `(batch, ..., channels)` in
            shares of the pixel range to their log-variances, of the same shape or with one
            channel for all. `None` is the paper's `W` and `B`, which are not made otherwise.
        **kwargs: As for `keras.layers.Layer`.

    Call arguments:
        x: Tensor of shape `(batch, ..., channels)`, of any rank above one and any numeric dtype.
        training: Whether the call belongs to training.

    Returns:
        A tensor of the shape of `x` in the layer's compute dtype. Noise and exponential are
        computed in float32 under every dtype policy.

    Raises:
        ValueError: If the shape of a feature is unknown when the layer is built (and
            `per_channel` does not make it unnecessary).
        UserError: If `initial_sigma`, `pixel_range`, `sigma_floor` or `log_variance` is not
            valid, `log_variance` returns another shape, or a `SensitivityRegularizer` does not
            fit the layer.

    Examples:
        >>> layer = PNILLayer(initial_sigma=0.25, pixel_range=(0, 255))
        >>> x = tf.zeros((2, 28, 28, 1))
        >>> layer(x).shape
        TensorShape([2, 28, 28, 1])
        >>> round(float(layer.sigma(x)[0, 0, 0, 0]), 4)
        0.25
    """

    def __init__(
        self,
        per_channel: bool = False,
        kernel_initializer: Any = "zeros",
        bias_initializer: Any = None,
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        noise_at_inference: bool = True,
        initial_sigma: float = INITIAL_SIGMA,
        pixel_range: Sequence[float] | PixelRange = (0.0, 1.0),
        use_kernel: bool = True,
        sigma_floor: float = 0.0,
        log_variance: keras.layers.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                "PNILLayer needs Keras' TensorFlow backend. Received: the backend "
                f"{keras.backend.backend()!r}. Set KERAS_BACKEND=tensorflow."
            )
        self.per_channel = per_channel
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.noise_at_inference = noise_at_inference
        if not (isinstance(initial_sigma, numbers.Real) and 0.0 < initial_sigma < math.inf):
            raise UserError(
                "The noise starts with a standard deviation above 0, a share of the pixel range. "
                f"Received: initial_sigma={initial_sigma!r}. Pass for example {INITIAL_SIGMA}."
            )
        self.initial_sigma: float = float(initial_sigma)
        if not (isinstance(sigma_floor, numbers.Real) and 0.0 <= sigma_floor < initial_sigma):
            raise UserError(
                "The noise's floor is a standard deviation, at least 0 and below the one that it "
                f"starts with, {initial_sigma:g}. Received: sigma_floor={sigma_floor!r}. Make it "
                "smaller, or let the noise start louder."
            )
        self.sigma_floor: float = float(sigma_floor)
        if not isinstance(use_kernel, bool | np.bool_):
            raise UserError(
                "Whether the noise depends on the image is True or False. Received: "
                f"use_kernel={use_kernel!r}. Pass use_kernel=False for noise that no image changes."
            )
        self.use_kernel: bool = bool(use_kernel)
        self._check_sensitivity()
        self.pixel_range: PixelRange = PixelRange.of(pixel_range)
        self.from_context: keras.layers.Layer | None = self._checked(log_variance)
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates `W` (as `kernel`, unless it is not used) and `B` (as `bias`)."""
        shape = tuple(input_shape[-1:] if self.per_channel else input_shape[1:])
        if len(input_shape) < 2 or None in shape:
            raise ValueError(
                "PNILLayer needs one weight for every input feature, so every axis after the "
                f"batch must be known. Received: input_shape={tuple(input_shape)}. Give the model "
                "a fixed input shape, or use PNILLayer(per_channel=True)."
            )
        self.kernel: Any = None
        self.bias: Any = None
        if self.from_context is not None:
            self._build_from_context(tuple(input_shape))
            self.built = True
            return
        # autocast=False: under a mixed policy the weights are still used in float32.
        if self.use_kernel:
            self.kernel = self.add_weight(
                name="kernel",
                shape=shape,
                initializer=self.kernel_initializer,
                regularizer=self.kernel_regularizer,
                constraint=self.kernel_constraint,
                autocast=False,
            )
        self.bias = self.add_weight(
            name="bias",
            shape=shape,
            initializer=self.bias_initializer or keras.initializers.Constant(self._start()),
            regularizer=self.bias_regularizer,
            constraint=self.bias_constraint,
            autocast=False,
        )
        self.built = True

    def _check_sensitivity(self) -> None:
        penalty = self.bias_regularizer
        if not isinstance(penalty, SensitivityRegularizer):
            return
        if self.use_kernel:
            raise UserError(
                "SensitivityRegularizer is about noise that no image changes: with a kernel the "
                "noise is louder or quieter than B alone says, and D is not all that a proof "
                "depends on. Pass use_kernel=False, or another bias_regularizer."
            )
        if not math.isclose(penalty.sigma_floor, self.sigma_floor, rel_tol=1e-6):
            raise UserError(
                "SensitivityRegularizer and its layer have one floor, or it would reward other "
                f"noise than there is. Received: {penalty.sigma_floor:g} in the regularizer, "
                f"sigma_floor={self.sigma_floor:g} in the layer. Pass the layer's to both."
            )

    def _checked(self, log_variance: Any) -> keras.layers.Layer | None:
        if log_variance is None:
            return None
        if not isinstance(log_variance, keras.layers.Layer):
            raise UserError(
                "The log-variance is computed by a Keras layer or model. Received: log_variance of "
                f"the type {type(log_variance).__name__}. Pass for example ConvLogVariance()."
            )
        of_weights = {
            "per_channel": self.per_channel,
            "use_kernel=False": not self.use_kernel,
            "bias_initializer": self.bias_initializer is not None,
            "kernel_regularizer": self.kernel_regularizer is not None,
            "bias_regularizer": self.bias_regularizer is not None,
            "kernel_constraint": self.kernel_constraint is not None,
            "bias_constraint": self.bias_constraint is not None,
        }
        given = [name for name, is_given in of_weights.items() if is_given]
        if given:
            raise UserError(
                f"{given[0]} is about W and B, which a layer with log_variance does not have. "
                "Leave one of the two out."
            )
        return log_variance

    def _build_from_context(self, shape: tuple[int | None, ...]) -> None:
        context = self.from_context
        assert context is not None
        if not context.built:
            context.build(shape)
        answered = tuple(context.compute_output_shape(shape))
        if answered not in (shape, (*shape[:-1], 1)):
            raise UserError(
                "The log-variance has the shape of the image, or one channel for all. Received: "
                f"{context.name!r} makes {answered} of {shape}. Let it pad to the same size and "
                "end with as many channels as the image has."
            )

    def _start(self) -> float:
        """The log-variance that the noise starts with, beside that of the floor."""
        return math.log(self.initial_sigma**2 - self.sigma_floor**2)

    def log_variance(self, x: Tensor) -> Tensor:
        """Returns `Sigma` (equation 2), float32, in the shape of `x`.

        With a `sigma_floor` it is the logarithm of the whole variance.
        """
        return self._times_log_variance(1.0, x)

    def sigma(self, x: Tensor) -> Tensor:
        """Returns the noise's standard deviation `exp(Sigma / 2)`, float32, shaped like `x`.

        It is a share of the pixel range; times the range's width it is in the units of `x`.
        """
        return tf.exp(self._times_log_variance(0.5, x))

    def _times_log_variance(self, factor: float, x: Tensor) -> Tensor:
        if self.sigma_floor:
            return factor * floored(self._times_linear(1.0, x), self.sigma_floor)
        return self._times_linear(factor, x)

    def _times_linear(self, factor: float, x: Tensor) -> Tensor:
        if self.from_context is not None:
            unit = self.pixel_range.to_unit(tf.cast(x, tf.float32))
            log_variance = self._start() + tf.cast(self.from_context(unit), tf.float32)
            return factor * tf.broadcast_to(log_variance, tf.shape(x))
        if self.kernel is None:
            return tf.broadcast_to(factor * tf.cast(self.bias, tf.float32), tf.shape(x))
        # W and B are as large as one image; multiplying them spares a pass over the batch.
        slope, start = (factor * tf.cast(w, tf.float32) for w in (self.kernel, self.bias))
        if not self.pixel_range.is_unit:
            slope = slope / self.pixel_range.width
            start = start - self.pixel_range.low * slope
        return tf.cast(x, tf.float32) * slope + start

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        """Adds the noise (equation 3)."""
        x = tf.cast(x, tf.float32)
        if training or self.noise_at_inference:
            noise = rng.layer_noise(tf.shape(x), training) * self.sigma(x)
            x += noise if self.pixel_range.is_unit else self.pixel_range.width * noise
        return tf.cast(x, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that rebuild the layer."""
        return {
            **super().get_config(),
            "per_channel": self.per_channel,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
            "noise_at_inference": self.noise_at_inference,
            "initial_sigma": self.initial_sigma,
            "pixel_range": [self.pixel_range.low, self.pixel_range.high],
            "use_kernel": self.use_kernel,
            "sigma_floor": self.sigma_floor,
            "log_variance": keras.saving.serialize_keras_object(self.from_context),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PNILLayer:
        """Rebuilds the layer from `get_config`; layers saved before it knew `log_variance`, too."""
        context = keras.saving.deserialize_keras_object(config.get("log_variance"))
        layer: PNILLayer = super().from_config({**config, "log_variance": context})
        return layer


@keras.saving.register_keras_serializable(package="pnil_tf")
class SensitivityRegularizer(keras.regularizers.Regularizer):
    """Rewards noise that moves the answer little: for a `PNILLayer` without a kernel.

    The penalty is `factor * log D` with the sensitivity `D = sqrt(sum 1 / sigma^2)` over the
    features: a `bias_regularizer`. Without a kernel, `D` and the share of draws that are right are
    all that the radius in l_inf depends on which `pnil_tf.certify` proves; see the page on
    certificates. Where nothing is to be seen, training under it makes the noise loud. A layer with
    a kernel refuses it: there the noise is not that of `B`.

    Args:
        factor: Weight beside the loss, >= 0; 0.2 to 0.3 did well on MNIST.
        sigma_floor: That of the layer, which refuses another.

    Raises:
        UserError: If `factor` or `sigma_floor` is not valid.
    """

    def __init__(self, factor: float, sigma_floor: float = 0.0) -> None:
        if not (isinstance(factor, numbers.Real) and 0.0 <= factor < math.inf):
            raise UserError(
                f"The penalty's weight is a number of at least 0. Received: factor={factor!r}. "
                "Pass for example 0.2."
            )
        if not (isinstance(sigma_floor, numbers.Real) and 0.0 <= sigma_floor < math.inf):
            raise UserError(
                "The noise's floor is a standard deviation of at least 0. Received: "
                f"sigma_floor={sigma_floor!r}. Pass that of the layer."
            )
        self.factor: float = float(factor)
        self.sigma_floor: float = float(sigma_floor)

    def __call__(self, bias: Any) -> Any:
        """Returns the penalty, a float32 scalar, of a layer's `B`."""
        log_variance = floored(tf.cast(bias, tf.float32), self.sigma_floor)
        return 0.5 * self.factor * tf.reduce_logsumexp(-log_variance)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that rebuild the regularizer."""
        return {"factor": self.factor, "sigma_floor": self.sigma_floor}


def floored(log_variance: Tensor, sigma_floor: float) -> Tensor:
    """Returns `log(exp(log_variance) + sigma_floor ** 2)`; without a floor, as it was."""
    if not sigma_floor:
        return log_variance
    least = 2.0 * math.log(sigma_floor)
    return least + tf.nn.softplus(log_variance - least)
