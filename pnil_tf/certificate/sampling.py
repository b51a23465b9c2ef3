"""Counts of the classes that a noisy classifier answers with: independent draws, bounded memory.

The noise of draw k of image i follows from the seed, i and k alone, by a counter-based generator
(Philox). So neither the number of draws in a pass nor what ran before changes a count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from pnil_tf import rng

DRAWS_OF_A_SEED = 50
"""Draws whose noise comes from one seed, one after the other."""


def gaussian(shape: Any, seed: Any) -> Any:
    """Standard normal noise, float32 (Box and Muller 1958), with tails as far as 8.5.

    `rng.normal`, which training and evaluation use, ends at 5.65: of 10^5 draws of an image of
    MNIST's size about one would have had a value beyond. A bound of shares so near to 1 must not
    rest on their absence, so the radius is drawn in float64 here.

    Args:
        shape: int32 `(rank,)`.
        seed: int32 seed pair.
    """
    size = tf.reduce_prod(shape)
    half = (size + 1) // 2
    near = tf.random.stateless_uniform([half], rng.fold(seed, 0), dtype=tf.float64, alg="philox")
    turn = tf.random.stateless_uniform([half], rng.fold(seed, 1), alg="philox")
    radius = tf.cast(tf.sqrt(-2.0 * tf.math.log1p(-near)), tf.float32)
    angle = 2.0 * np.pi * turn
    both = tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=0)
    return tf.reshape(both[:size], shape)


class Sampler:
    """Draws answers of one classifier.

    Args:
        predict: Images in [0, 1] -> logits, float32 `(batch, classes)`; its noise is that of one
            `PNILLayer`, called once.
        image_shape: `(height, width, channels)`.
        classes: How many there are.
        batch_size: Draws in one pass, which bounds the memory; rounded up to a multiple of
            `DRAWS_OF_A_SEED`.
    """

    def __init__(
        self,
        predict: Callable[[Any], Any],
        image_shape: tuple[int, ...],
        classes: int,
        batch_size: int,
    ) -> None:
        self._predict, self._classes = predict, classes
        self._seeds = -(-batch_size // DRAWS_OF_A_SEED)
        whole, pair = tf.TensorSpec([], tf.int32), tf.TensorSpec([2], tf.int32)
        image = tf.TensorSpec(image_shape, tf.float32)
        self._compiled = tf.function(self._pass, [image, pair, whole, whole], autograph=False)

    def counts(
        self,
        image: np.ndarray,
        seed: Any,
        draws: int,
        progress: Callable[[int], None] = lambda done: None,
    ) -> np.ndarray:
        """How many of the draws answer with each class.

        Args:
            image: float32 `(height, width, channels)` in [0, 1].
            seed: int32 seed pair; decides the noise.
            draws: How many draws.
            progress: Called now and then with the number of draws that are done.

        Returns:
            int64 `(classes + 1,)`; the last one counts answers that are not finite.
        """
        found = np.zeros(self._classes + 1, np.int64)
        image = tf.constant(image, tf.float32)
        seeds = -(-draws // DRAWS_OF_A_SEED)
        for first in range(0, seeds, self._seeds):
            found += self._compiled(image, seed, tf.constant(first), tf.constant(draws)).numpy()
            progress(min((first + self._seeds) * DRAWS_OF_A_SEED, draws))
        return found

    def _pass(self, image: Any, seed: Any, first: Any, draws: Any) -> Any:
        at_once = self._seeds * DRAWS_OF_A_SEED

        def noise(shape: Any, call: int) -> Any:
            part = tf.concat([[DRAWS_OF_A_SEED], shape[1:]], axis=0)
            each = [gaussian(part, rng.fold(seed, first + i)) for i in range(self._seeds)]
            return tf.concat(each, axis=0)

        with rng.noise_from(noise):
            logits = self._predict(tf.repeat(image[tf.newaxis], at_once, axis=0))
        best = tf.argmax(logits, axis=-1, output_type=tf.int32)
        finite = tf.reduce_all(tf.math.is_finite(logits), axis=-1)
        answers = tf.where(finite, best, self._classes)
        wanted = first * DRAWS_OF_A_SEED + tf.range(at_once) < draws
        one_hot = tf.one_hot(answers, self._classes + 1, dtype=tf.int64)
        return tf.reduce_sum(one_hot * tf.cast(wanted, tf.int64)[:, tf.newaxis], axis=0)
