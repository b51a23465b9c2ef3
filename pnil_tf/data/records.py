"""Sets that TensorFlow Datasets has prepared as array_record, whose records have no order."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf

from pnil_tf.data import memory
from pnil_tf.data.digests import digest
from pnil_tf.data.image_files import DECODED_BYTES, THREADS, Reader, fitted
from pnil_tf.data.pictures import UnusableImageError
from pnil_tf.errors import UserError, reason
from pnil_tf.progress import Progress

_FORMAT = "array_record"
HOW = f"tfds.builder(NAME, file_format='{_FORMAT}').download_and_prepare()"
"""How a set comes to be stored so."""


def are_stored(builder: Any) -> bool:
    """Whether a prepared data set is stored so."""
    stored = builder.info.file_format
    return stored is not None and stored.value == _FORMAT


class Records:
    """The images and labels of one split.

    Their pixels are those that TensorFlow decodes, as of records that are read in order.

    Args:
        name: of the data set, for messages.
        builder: a prepared `tfds.core.DatasetBuilder` whose records `are_stored` so.
        split: which of its splits.
        image_key, label_key: names of the two features.

    Raises:
        UserError: if the package array_record is missing.
    """

    def __init__(self, name: str, builder: Any, split: str, image_key: str, label_key: str) -> None:
        import tensorflow_datasets as tfds

        self.split = split
        self._name, self._image_key, self._label_key = name, image_key, label_key
        self._feature = builder.info.features[image_key]
        try:
            self._source = builder.as_data_source(
                split=split, decoders={image_key: tfds.decode.SkipDecoding()}
            )
        except ImportError as error:
            raise UserError(
                f"'{name}' is stored as {_FORMAT}, and the package that reads it is not installed. "
                "Install it by pip install 'pnil_tf[streaming]'."
            ) from error

    def __len__(self) -> int:
        return len(self._source)

    def encoded(self, place: int) -> bytes:
        """An image as it is stored."""
        return bytes(self._source[place][self._image_key])

    def example(self, place: int) -> tuple[np.ndarray, int]:
        """An image, uint8 of any size, and its label.

        Raises:
            UnusableImageError: if it cannot be read.
        """
        # The files, their records and the images in them are read by libraries of their own.
        try:
            stored = self._source[place]
            with tf.device("CPU:0"):
                image = self._feature.decode_example(stored[self._image_key]).numpy()
        except Exception as error:
            raise UnusableImageError(f"cannot be read: {reason(error)}") from error
        return image, int(stored[self._label_key])

    def read_all(
        self, shape: tuple[int, int, int], in_memory: bool
    ) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
        """Decodes every image once.

        Args:
            shape: `(height, width, channels)` that each is brought to.
            in_memory: whether the images are kept.

        Returns:
            The images, uint8 `(n, *shape)`, or None; labels, int32 `(n,)`; and the digest of
            each image that is not kept.

        Raises:
            UserError: if one cannot be read.
        """
        images = np.empty((len(self), *shape), np.uint8) if in_memory else None
        labels = np.empty(len(self), np.int32)

        def read(place: int) -> str:
            image, label = self.example(place)
            labels[place] = label
            if images is None:
                return digest(fitted(image, shape), labels[place])
            images[place] = fitted(image, shape)
            return ""

        digests = []
        progress = Progress(f"looking through the {self.split} images", len(self), "image")
        pool = ThreadPoolExecutor(_threads(shape))
        try:
            for found in pool.map(read, range(len(self))):
                digests.append(found)
                progress.advance_to(len(digests))
        except UnusableImageError as error:
            raise UserError(
                f"Image {len(digests)} of the {self.split} images of '{self._name}' {error}. "
                "Prepare the data set again."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)  # an interrupted command ends at once
        progress.close(f"{len(self):,} images")
        return images, labels, np.array(digests)


def _threads(shape: tuple[int, int, int]) -> int:
    """How many are decoded at once; how large one is before it is resized is not known."""
    return memory.at_once(DECODED_BYTES * shape[0] * shape[1], THREADS)


class RecordReader(Reader):
    """Decodes records.

    Args:
        records: one split.
        labels, digests, image_shape: of `Reader`.
    """

    def __init__(
        self,
        records: Records,
        labels: np.ndarray,
        digests: np.ndarray,
        image_shape: tuple[int, int, int],
    ) -> None:
        super().__init__(labels, digests, image_shape, _threads(image_shape))
        self._records = records

    def decode(self, place: int) -> np.ndarray:
        """The image of one record."""
        return self._records.example(place)[0]

    def name(self, place: int) -> str:
        """The record's number in its split."""
        return f"Image {place} of the {self._records.split} images"
