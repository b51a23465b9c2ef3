"""Bringing images to one size."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from pnil_tf.data.types import ImageSet

_BATCH = 512


def resize(images: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Resize uint8 images `(..., h, w, c)` to `(height, width)`, smoothed where they shrink."""
    resized = tf.image.resize(images, size, antialias=True)
    return tf.cast(tf.round(tf.clip_by_value(resized, 0.0, 255.0)), tf.uint8)


def resize_set(images: ImageSet, size: tuple[int, int]) -> ImageSet:
    """Resize a whole set to `(height, width)`, a few images at a time."""
    if images.images.shape[1:3] == tuple(size):
        return images
    parts = [
        resize(images.images[start : start + _BATCH], size).numpy()
        for start in range(0, len(images), _BATCH)
    ]
    return ImageSet(np.concatenate(parts), images.labels)
