"""Bringing images to one size."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from pnil_tf.batching import batches_of
from pnil_tf.data.image_set import ImageSet

# Floats of enlarged images that are held at once.
_BATCH_BYTES = 2**28


def resize(images: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Resize images `(..., h, w, c)` to `(height, width)`, smoothed where they shrink.

    Always on the CPU: threads that read files leave the accelerator and its memory to the
    training, and an image's pixels are the same wherever it is read.

    Args:
        images: uint8, or float32 in [0, 1]; the result is the same.
        size: `(height, width)`.
    """
    with tf.device("CPU:0"):
        resized = tf.image.resize(images, size, antialias=True)
        if images.dtype == np.float32:
            return tf.clip_by_value(resized, 0.0, 1.0)
        return tf.cast(tf.round(tf.clip_by_value(resized, 0.0, 255.0)), tf.uint8)


def resize_set(images: ImageSet, size: tuple[int, int]) -> ImageSet:
    """Resize a whole set to `(height, width)`, a few images at a time."""
    if images.images.shape[1:3] == tuple(size):
        return images
    channels = images.images.shape[-1]
    resized = np.empty((len(images), *size, channels), images.images.dtype)
    batch = max(1, _BATCH_BYTES // (4 * size[0] * size[1] * channels))
    for rows in batches_of(len(images), batch):
        resized[rows] = resize(images.images[rows], size)
    return ImageSet(resized, images.labels)
