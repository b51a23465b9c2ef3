"""Checks that the pixels of a training lie in the classifier's range, whatever holds them."""

from __future__ import annotations

import math
import warnings

import numpy as np
import tensorflow as tf

from pnil_tf.contract.pixel_range import BYTES, DARK_BYTES, PixelRange, range_like
from pnil_tf.errors import UserError, argument
from pnil_tf.tensors import Pixels, Scalar, Tensor

_ROUNDING = 1e-5
"""How far pixels may lie outside the range, as a share of its width: resizing rounds."""
_DARK = 16
"""Bytes that are all as dark as this are rather of another scale."""


def check_array(pixel_range: PixelRange, pixels: np.ndarray) -> None:
    """As `check_pixels`, for all images at once: floats of zeros and ones are no bytes, then.

    Args:
        pixel_range: The classifier's.
        pixels: All images, of any numeric type.

    Raises:
        UserError: If they belong to another range.
    """
    low, high = float(pixels.min()), float(pixels.max())
    floats = not np.issubdtype(pixels.dtype, np.integer)
    check_pixels(pixel_range, low, high, floats and (high <= 1 or _fractional(pixels)))


def check_bytes(white: int, name: str) -> None:
    """Refuses images of the type uint8 that are none of bytes: 16 means white in them, or 1.

    Args:
        white: The largest pixel of all.
        name: What an error calls the images.

    Raises:
        UserError: If they are next to black.
    """
    if 0 < white <= _DARK:
        raise UserError(
            f"{name} of the type uint8 have pixels from 0 to 255. Received: {white} at most, next "
            f"to black. If {white} means white, multiply all of them by {255 // white}. If they "
            f"are as dark as that, pass floats and {argument('pixel_range', (0, 255))}."
        )


def check_pixels(pixel_range: PixelRange, low: float, high: float, fractional: bool) -> None:
    """Refuses pixels that belong to another range than the classifier's.

    Args:
        pixel_range: The classifier's.
        low: Smallest pixel seen.
        high: Largest pixel seen.
        fractional: Whether some pixels are no whole numbers.

    Raises:
        UserError: If pixels lie outside, are not numbers, or are all within [0, 1] where 0 to 255
            or the like is expected.
    """
    if math.isnan(low) or math.isnan(high):
        raise UserError("Pixels must be finite numbers. Received: NaN among them.")
    slack = _ROUNDING * pixel_range.width
    inside = low >= pixel_range.low - slack and high <= pixel_range.high + slack
    # Nearly black bytes are whole numbers.
    tiny = pixel_range.width > 100 and low >= 0 and 0 < high <= 1 and fractional
    if inside and not tiny:
        if pixel_range.width > 100 and low >= 0 and high == 1:
            warnings.warn(
                f"All pixels so far are 0 or 1, but the classifier takes {pixel_range}. If 1 means "
                f"white, pass {argument('pixel_range', (0, 1))}, or scale the images.",
                stacklevel=2,
            )
        elif pixel_range.low < 0 <= low and high > 0:
            warnings.warn(
                f"All pixels so far lie above 0, but the classifier takes {pixel_range}. If they "
                f"are from 0 up, pass {argument('pixel_range', (0, 1))}, or scale them.",
                stacklevel=2,
            )
        elif _seem_narrower(pixel_range, low, high):
            white = max(high, 1.0)
            warnings.warn(
                f"All pixels so far lie in [0, {white:g}], but the classifier takes {pixel_range}. "
                f"If {white:g} means white, pass {argument('pixel_range', (0, white))}, or scale "
                "the images.",
                stacklevel=2,
            )
        return
    seem = range_like(low, high, fractional)
    if seem is None or seem == pixel_range:
        advice = (
            f"Scale the images to {pixel_range}, or pass the {argument('pixel_range')} that they "
            "have."
        )
    else:
        advice = (
            f"They look like {seem}: pass {argument('pixel_range', (seem.low, seem.high))} if that "
            f"is what the classifier takes, or scale the images to {pixel_range}."
        )
    raise UserError(
        f"The pixels must lie in {pixel_range}, the classifier's range. Received: values from "
        f"{low:g} to {high:g}. {advice}"
    )


def _seem_narrower(pixel_range: PixelRange, low: float, high: float) -> bool:
    """Whether pixels of a range that begins at 0 may be of one that ends at `high`, or at 1."""
    if 0 < high <= 1:
        return low >= 0 and pixel_range.high >= 2
    return pixel_range == BYTES and 1 < high < DARK_BYTES


def _fractional(pixels: np.ndarray) -> bool:
    return bool((pixels != np.floor(pixels)).any())


def pixel_extremes(pixels: Pixels, pixel_range: PixelRange) -> tuple[Scalar, Scalar, Scalar]:
    """Smallest and largest pixel, and 1.0 where some are no whole numbers: float32 scalars.

    Args:
        pixels: float32 `(batch, ...)`.
        pixel_range: Only a wide one needs the last.
    """
    fractional = tf.constant(1.0)
    if pixel_range.width > 100:
        fractional = tf.cast(tf.reduce_any(pixels != tf.floor(pixels)), tf.float32)
    return tf.reduce_min(pixels), tf.reduce_max(pixels), fractional


class Extremes:
    """The extremes of all batches since the last look, kept on the device.

    It works in a graph, compiled by XLA, and on every replica of a strategy; there is nothing to
    wait for until somebody looks.

    Args:
        lows: How many smallest values are kept.
        highs: How many largest ones.
    """

    def __init__(self, lows: int, highs: int) -> None:
        self._lows = lows
        self._nothing = np.full([lows + highs], -np.inf, np.float32)
        # Every replica keeps its own.
        self._largest = tf.Variable(
            self._nothing,
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.MEAN,
            name="extremes",
        )

    def note(self, lows: list[Scalar], highs: list[Scalar]) -> Tensor:
        """Takes in float32 scalars, a batch's extremes; returns the tensor that does it."""
        largest = tf.maximum(self._largest, tf.stack([*(-low for low in lows), *highs]))
        with tf.control_dependencies([self._largest.assign(largest)]):
            return tf.identity(largest)

    def take(self, strategy: tf.distribute.Strategy) -> tuple[list[float], list[float]] | None:
        """Lows and highs so far, from all replicas of this machine; `None` if there was no batch.

        What comes afterwards is counted from the start.
        """
        own = [part.numpy() for part in strategy.experimental_local_results(self._largest)]
        largest = np.max(own, axis=0)
        if np.isneginf(largest).all():
            return None
        for part in strategy.experimental_local_results(self._largest):
            part.assign(self._nothing)
        return (-largest[: self._lows]).tolist(), largest[self._lows :].tolist()
