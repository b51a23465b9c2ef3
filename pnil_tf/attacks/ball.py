"""The ball around an image: its bounds, and random points in it."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.tensors import Images, Scalar, Seed, Shape, Tensor

ORDERS = {"linf": np.inf, "l2": 2}
"""The order of each norm, as Cleverhans takes it."""

DUALS = {"linf": 1, "l2": 2}
"""The order of the norm that a gradient has where a ball has this one."""


def box(x: Images, epsilon: float, clip_min: float, clip_max: float) -> tuple[Images, Images]:
    """Returns the least and the largest pixels of the l_inf ball around `x` within the range."""
    return tf.maximum(x - epsilon, clip_min), tf.minimum(x + epsilon, clip_max)


def uniform_in_ball(shape: Shape, seed: Seed, radius: float, norm: str) -> Tensor:
    """Returns displacements (float32, `shape`), uniform in the ball."""
    if norm == "linf":
        return rng.uniform(shape, seed, radius)
    # The volume within radius r grows as r^dimension.
    quantile = tf.random.stateless_uniform([shape[0], 1], rng.fold(seed, 1), alg="philox")
    shares = quantile ** (1.0 / tf.cast(tf.reduce_prod(shape[1:]), tf.float32))
    return on_sphere(shape, seed, radius * shares)


def on_sphere(shape: Shape, seed: Seed, radius: Scalar) -> Tensor:
    """Returns displacements (float32, `shape`) of l2 norm `radius` and uniform direction."""
    flat = tf.stack([shape[0], tf.reduce_prod(shape[1:])])
    direction = tf.math.l2_normalize(rng.normal(flat, rng.fold(seed, 0)), axis=1)
    return tf.reshape(radius * direction, shape)
