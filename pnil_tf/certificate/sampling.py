"""Counts of the classes that a noisy classifier answers with: independent draws, bounded memory.

The noise of draw k of image i follows from the seed, i and k alone, by a counter-based generator
(Philox, Salmon et al. 2011). So neither the number of draws in a pass nor what ran before changes a
count. The seed is the generator's key, and every block of draws has counters of its own: no two can
share their noise, however many there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from pnil_tf import rng

DRAWS_OF_A_BLOCK = 50
"""Draws whose noise comes from one block of counters, one after the other."""

SELECTION, PROOF = 0, 1
"""What the noise of an image is for: to choose its class, or to prove it. Each has its stream."""

SCHEME = f"Philox, key of 64 bits, blocks of {DRAWS_OF_A_BLOCK} draws"
"""Names this way from a seed to noise: what was begun by another is not gone on with. It must be
changed with whatever changes a draw."""

_PHILOX = 1
_COUNTERS = 2**32
"""Of a block, each good for two numbers in float64: noise of 2**33 values."""


def gaussian(shape: Any, key: Any, stream: Any, block: Any) -> Any:
    """Standard normal noise, float32 (Box and Muller 1958), with tails as far as 8.5.

    `rng.normal`, which training and evaluation use, ends at 5.65: of 10^5 draws of an image of
    MNIST's size about one would have had a value beyond. A bound of shares so near to 1 must not
    rest on their absence, so the radius is drawn in float64 here.

    Args:
        shape: int32 `(rank,)`.
        key: int64 scalar tensor; all 64 bits count.
        stream: What the noise is for, an integer scalar from 0 to 2**62 - 1.
        block: Which part of the stream, an integer scalar from 0 to 2**31 - 1.
    """
    size = tf.reduce_prod(shape)
    half = (size + 1) // 2
    twice = 2 * tf.cast(stream, tf.int64)
    near = _uniform(half, key, twice, block, tf.float64)
    turn = _uniform(half, key, twice + 1, block, tf.float32)
    radius = tf.cast(tf.sqrt(-2.0 * tf.math.log1p(-near)), tf.float32)
    angle = 2.0 * np.pi * turn
    both = tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=0)
    return tf.reshape(both[:size], shape)


def _uniform(size: Any, key: Any, stream: Any, block: Any, dtype: Any) -> Any:
    """Numbers from 0 to 1, of the counters whose upper 96 bits are the stream and the block."""
    first = tf.cast(block, tf.int64) * _COUNTERS
    return tf.raw_ops.StatelessRandomUniformV2(
        shape=[size],
        key=tf.cast(key, tf.uint64)[tf.newaxis],
        counter=tf.cast(tf.stack([first, stream]), tf.uint64),
        alg=_PHILOX,
        dtype=dtype,
    )


def whole_blocks(draws: int) -> int:
    """As many draws or more, a multiple of `DRAWS_OF_A_BLOCK`."""
    return -(-draws // DRAWS_OF_A_BLOCK) * DRAWS_OF_A_BLOCK


class Sampler:
    """Draws answers of one classifier.

    Args:
        predict: Images in [0, 1] -> logits, float32 `(batch, classes)`; its noise is that of one
            `PNILLayer`, called once.
        image_shape: `(height, width, channels)`.
        classes: How many there are.
        batch_size: Draws in one pass, which bounds the memory; rounded up to `whole_blocks`.
        draw: What the noise of a block is; a benchmark has ready noise.
    """

    def __init__(
        self,
        predict: Callable[[Any], Any],
        image_shape: tuple[int, ...],
        classes: int,
        batch_size: int,
        draw: Callable[[Any, Any, Any, Any], Any] = gaussian,
    ) -> None:
        self._predict, self._classes, self._draw = predict, classes, draw
        self._blocks = whole_blocks(batch_size) // DRAWS_OF_A_BLOCK
        image = tf.TensorSpec(image_shape, tf.float32)
        long, whole = (tf.TensorSpec([], kind) for kind in (tf.int64, tf.int32))
        signature = [image, long, long, whole, whole]
        self._compiled = tf.function(self._pass, signature, autograph=False)

    def counts(
        self,
        image: np.ndarray,
        seed: int,
        stream: int,
        draws: int,
        progress: Callable[[int], None] = lambda done: None,
    ) -> np.ndarray:
        """How many of the draws answer with each class.

        Args:
            image: float32 `(height, width, channels)` in [0, 1].
            seed: From 0 to 2**63 - 1; decides the noise.
            stream: What the noise is for; others have other noise.
            draws: How many draws.
            progress: Called now and then with the number of draws that are done.

        Returns:
            int64 `(classes + 1,)`; the last one counts answers that are not finite.
        """
        found = np.zeros(self._classes + 1, np.int64)
        image = tf.constant(image, tf.float32)
        key, stream = (tf.constant(number, tf.int64) for number in (seed, stream))
        blocks = -(-draws // DRAWS_OF_A_BLOCK)
        for first in range(0, blocks, self._blocks):
            at, until = tf.constant(first), tf.constant(draws)
            found += self._compiled(image, key, stream, at, until).numpy()
            progress(min((first + self._blocks) * DRAWS_OF_A_BLOCK, draws))
        return found

    def _pass(self, image: Any, key: Any, stream: Any, first: Any, draws: Any) -> Any:
        at_once = self._blocks * DRAWS_OF_A_BLOCK

        def noise(shape: Any, call: int) -> Any:
            part = tf.concat([[DRAWS_OF_A_BLOCK], shape[1:]], axis=0)
            each = [self._draw(part, key, stream, first + i) for i in range(self._blocks)]
            return tf.concat(each, axis=0)

        with rng.noise_from(noise):
            logits = self._predict(tf.repeat(image[tf.newaxis], at_once, axis=0))
        best = tf.argmax(logits, axis=-1, output_type=tf.int32)
        finite = tf.reduce_all(tf.math.is_finite(logits), axis=-1)
        answers = tf.where(finite, best, self._classes)
        wanted = first * DRAWS_OF_A_BLOCK + tf.range(at_once) < draws
        one_hot = tf.one_hot(answers, self._classes + 1, dtype=tf.int64)
        return tf.reduce_sum(one_hot * tf.cast(wanted, tf.int64)[:, tf.newaxis], axis=0)
