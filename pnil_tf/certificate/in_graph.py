"""The bounds of `bounds` within a graph, for exported models that prove while they serve.

float64 operations of TensorFlow alone. Where they could round up by more than the last digits of
float64 they keep a margin, so that nothing is claimed that `bounds` would not prove.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from pnil_tf.certificate import bounds
from pnil_tf.certificate.front import FrontNoise
from pnil_tf.layers import floored
from pnil_tf.vocabulary import NORMS

# Up to 100,000 draws TensorFlow's incomplete beta function was off by less than a thousandth of it.
_MARGIN = 1e-6
_BISECTIONS = 60

Radii = Callable[[Any, Any], dict[str, Any]]


def lower_confidence(hits: Any, draws: Any, alpha: float) -> Any:
    """As `bounds.lower_confidence`, float64 and shaped like `hits`.

    Args:
        hits: Integer tensor, from 0 to `draws`.
        draws: Integer scalar tensor.
        alpha: As there.
    """
    hits, draws = tf.cast(hits, tf.float64), tf.cast(draws, tf.float64)
    first, second = tf.maximum(hits, 1.0), draws - hits + 1.0

    def below(share: Any) -> Any:
        # A few numbers; its accuracy was compared there alone.
        with tf.device("CPU:0"):
            return tf.math.betainc(first, second, share) <= alpha * (1.0 - _MARGIN)

    found = _largest(below, tf.ones_like(hits))
    return tf.where(hits > 0.0, found, tf.zeros_like(found))


def radii_of(front: FrontNoise, image_shape: tuple[int, ...]) -> Radii:
    """Reads the noise, and returns what finds the radius of each image within a graph.

    Args:
        front: The noise.
        image_shape: `(height, width, channels)`.

    Returns:
        A function of float64 images `(batch, height, width, channels)` in [0, 1] and of lower
        bounds of the shares, float64 `(batch,)`. It returns the radius by norm, float64
        `(batch,)`; 0 where the share is no majority.
    """
    return _fixed(front, image_shape) if front.fixed else _moving(front)


def _fixed(front: FrontNoise, image_shape: tuple[int, ...]) -> Radii:
    sigma = front.sigma(np.zeros(image_shape))
    sensitivity = {norm: bounds.sensitivity(sigma, norm) for norm in NORMS}

    def radii(unit: Any, share: Any) -> dict[str, Any]:
        quantile = tf.math.ndtri(tf.maximum(share, 0.5))
        return {norm: quantile / value for norm, value in sensitivity.items()}

    return radii


def _moving(front: FrontNoise) -> Radii:
    line, most_slope, factor = front.line(), front.slope(), front.factor()
    floor = front.layer.sigma_floor

    def radii(unit: Any, share: Any) -> dict[str, Any]:
        slope, start = line
        log_variance = floored(start + slope * unit, floor)
        sigma = factor * tf.exp(log_variance / 2.0)
        return {norm: _moving_radius(most_slope, sigma, share, norm) for norm in NORMS}

    return radii


def _moving_radius(slope: np.ndarray, sigma: Any, share: Any, norm: str) -> Any:
    """As `bounds.any_radius`, of every image."""
    proved = tf.maximum(share, 0.5)
    most = -0.5 * tf.math.log(4.0 * proved * (1.0 - proved)) * (1.0 - _MARGIN)
    pixels = (1, 2, 3)
    each = tf.square(1.0 / sigma)
    over = tf.reduce_sum if norm == "linf" else tf.reduce_max

    def within(radius: Any) -> Any:
        step = tf.reshape(radius, [-1, 1, 1, 1])
        exponent = step * slope
        moved = tf.math.expm1(exponent) - exponent + tf.square(step) * each
        return 0.5 * over(tf.maximum(moved, 0.0), axis=pixels) < most

    return _largest(within, tf.sqrt(2.0 * most / over(each, axis=pixels)))


def _largest(holds: Callable[[Any], Any], high: Any) -> Any:
    """The largest values from 0 to `high` that are known to hold, if small ones do."""

    def halve(low: Any, high: Any) -> tuple[Any, Any]:
        middle = (low + high) / 2.0
        good = holds(middle)
        return tf.where(good, middle, low), tf.where(good, high, middle)

    low, _ = tf.while_loop(
        lambda low, high: True, halve, (tf.zeros_like(high), high), maximum_iterations=_BISECTIONS
    )
    return low
