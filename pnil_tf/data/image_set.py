"""Labelled images in memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import tensorflow as tf

from pnil_tf.data.digests import digest
from pnil_tf.errors import UserError


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images in memory.

    Attributes:
        images: `(n, height, width, channels)`, uint8 from 0 to 255, or float32 in [0, 1].
        labels: int32 `(n,)`, class indices from 0.

    Raises:
        UserError: if shapes, dtypes or the range of floats are others, or a label is negative.
    """

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.ndim != 4 or images.dtype not in (np.uint8, np.float32):
            raise UserError(
                "Images must be uint8 or float32 of shape (n, height, width, channels). "
                f"Received: {images.dtype} of shape {images.shape}."
            )
        # Written so that NaN fails, too.
        if images.dtype == np.float32 and images.size:
            low, high = images.min(), images.max()
            if not (low >= 0 and high <= 1):
                raise UserError(
                    f"Float pixels must be from 0 to 1. Received: {low:.4g} to {high:.4g}. Scale "
                    "the images."
                )
        if labels.shape != images.shape[:1] or labels.dtype != np.int32:
            raise UserError(
                f"{len(images)} images need int32 labels of shape ({len(images)},). "
                f"Received: {labels.dtype} of shape {labels.shape}."
            )
        if labels.size and labels.min() < 0:
            raise UserError(
                f"Labels must be class indices from 0. Received: {labels.min()}, which usually "
                "marks an image without a label. Leave such images out."
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def failure(self) -> None:
        """Nothing is read again."""

    @property
    def shape(self) -> tuple[int, ...]:
        """`(n, height, width, channels)`."""
        return self.images.shape

    @property
    def digests(self) -> np.ndarray:
        """Of each image and its label, `(n,)`; see `digests.digest`."""
        pairs = zip(self.images, self.labels, strict=True)
        return np.array([digest(image, label) for image, label in pairs])

    def take(self, n: int) -> ImageSet:
        """The first `n` images (all of them if there are fewer); a view, not a copy."""
        if n < 0:
            raise UserError(f"The number of images to take must be at least 0. Received: {n}.")
        return self.rows(slice(n))

    def part(self, rows: slice) -> ImageSet:
        """The images of a slice; a view, not a copy."""
        return self.rows(rows)

    def rows(self, rows: slice) -> ImageSet:
        """The images of a slice; a view, not a copy."""
        return ImageSet(self.images[rows], self.labels[rows])

    def select(self, indices: np.ndarray) -> ImageSet:
        """A copy of the images at `indices` (int, any order)."""
        return ImageSet(self.images[indices], self.labels[indices])

    @property
    def unit_images(self) -> np.ndarray:
        """The images as float32 in [0, 1]."""
        if self.images.dtype == np.float32:
            return self.images
        return self.images.astype(np.float32) / 255.0

    @cached_property
    def tensors(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Images and labels as host tensors, made once and shared by all streams."""
        with tf.init_scope(), tf.device("CPU:0"):
            return tf.convert_to_tensor(self.images), tf.convert_to_tensor(self.labels)
