"""From image sets to `tf.data` pipelines of float batches."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from pnil_tf.data.grain_stream import file_batches
from pnil_tf.data.image_files import ImageFiles
from pnil_tf.data.image_set import ImageSet
from pnil_tf.data.types import Images
from pnil_tf.errors import UserError

_PARALLEL_BATCHES = 2
_PREFETCHED_BATCHES = 4


def training_stream(
    images: Images, batch_size: int, seed: int, start_step: int = 0
) -> tf.data.Dataset:
    """An endless stream of shuffled batches that can start at any step.

    Step `s` belongs to epoch `s // (n // batch_size)`. Every epoch is one permutation of all `n`
    images, drawn from `(seed, epoch)` alone; its last `n % batch_size` images are dropped. So the
    stream from step `s` is, bit for bit, the undisturbed stream after `s` steps.

    Args:
        images: the images; those in memory are held once, however many streams read them.
        batch_size: images per batch, over all replicas.
        seed: any integer; its lowest 32 bits count.
        start_step: the number of steps already taken.

    Returns:
        Batches `(x, y)`: float32 `(batch_size, h, w, c)` in [0, 1], int32 `(batch_size,)`.

    Raises:
        UserError: if the batch is empty or larger than the set, or the start is negative.
    """
    _check_batch_size(batch_size)
    steps_per_epoch = len(images) // batch_size
    if steps_per_epoch == 0:
        raise UserError(
            f"A batch cannot be larger than the training set. Received: a batch of {batch_size} "
            f"and {len(images)} images. Make the batch smaller."
        )
    if start_step < 0:
        raise UserError(f"The first step must be at least 0. Received: {start_step}.")
    last = tf.constant(len(images) - 1, tf.int64)
    low_seed = tf.constant(seed % 2**32, tf.int64)

    def indices_of(step: tf.Tensor) -> tf.Tensor:
        epoch, step_in_epoch = step // steps_per_epoch, step % steps_per_epoch
        positions = step_in_epoch * batch_size + tf.range(batch_size, dtype=tf.int64)
        return tf.random.experimental.index_shuffle(positions, tf.stack([low_seed, epoch]), last)

    if isinstance(images, ImageFiles):

        def numbers_of(step: int) -> np.ndarray:
            with tf.device("CPU:0"):
                numbers: np.ndarray = indices_of(tf.constant(step, tf.int64)).numpy()
            return numbers

        return _floats(file_batches(images, numbers_of, start_step, None, batch_size))
    steps = tf.data.Dataset.counter(start_step)
    return _gather(steps.map(indices_of), images)


def batches(images: Images, batch_size: int, drop_remainder: bool = False) -> tf.data.Dataset:
    """All images once, in order.

    Args:
        images: the images.
        batch_size: images per batch, over all replicas.
        drop_remainder: leave out the last batch if it is smaller than the others.

    Returns:
        Batches `(x, y)`: float32 `(b, h, w, c)` in [0, 1], int32 `(b,)`, `b <= batch_size`.

    Raises:
        UserError: if the batch is empty.
    """
    _check_batch_size(batch_size)
    if isinstance(images, ImageFiles):
        whole, rest = divmod(len(images), batch_size)
        last = whole + (rest > 0 and not drop_remainder)
        every = np.arange(len(images))

        def numbers_of(number: int) -> np.ndarray:
            return every[number * batch_size : (number + 1) * batch_size]

        size = batch_size if last == whole else None
        return _floats(file_batches(images, numbers_of, 0, last, size))
    indices = tf.data.Dataset.range(len(images)).batch(batch_size, drop_remainder=drop_remainder)
    return _gather(indices, images)


def _gather(indices: tf.data.Dataset, images: ImageSet) -> tf.data.Dataset:
    """Turn vectors of indices into batches, one gather for each."""
    pixels, labels = images.tensors

    def batch_of(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return _as_floats(tf.gather(pixels, index)), tf.gather(labels, index)

    stream = indices.map(batch_of, num_parallel_calls=_PARALLEL_BATCHES)
    return stream.prefetch(_PREFETCHED_BATCHES).with_options(_options())


def _floats(stream: tf.data.Dataset) -> tf.data.Dataset:
    """Batches of bytes as batches of floats, four times as large: the bytes are what waits."""
    stream = stream.map(lambda pixels, labels: (_as_floats(pixels), labels))
    return stream.prefetch(1).with_options(_options())


def _as_floats(pixels: tf.Tensor) -> tf.Tensor:
    return tf.cast(pixels, tf.float32) / 255.0 if pixels.dtype == tf.uint8 else pixels


def _options() -> tf.data.Options:
    options = tf.data.Options()
    # The autotune thread can hold up the end of a stream for tens of seconds.
    options.autotune.enabled = False
    options.deterministic = True
    # There are no files to share out: workers take their slices of every global batch.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise UserError(f"The batch size must be at least 1. Received: {batch_size}.")
