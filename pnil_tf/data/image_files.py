"""Labelled images that stay in their files until they are needed."""

from __future__ import annotations

import abc
import dataclasses
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from pnil_tf.data import pictures
from pnil_tf.data.digests import digest
from pnil_tf.data.image_set import ImageSet
from pnil_tf.data.resizing import resize
from pnil_tf.errors import RunFailedError, UserError

# Four channels, their bytes, twice with 16 bits, and floats to resize.
DECODED_BYTES = 4 * (1 + 2 * 2 + 4)
"""Memory that each pixel of an image takes while it is decoded."""
# Beyond some, a disk is what decoders wait for.
_MOST_THREADS = 16
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
THREADS = min(_MOST_THREADS, _CORES or 1)
"""How many images, or batches of them, are decoded at once where memory allows."""


class Reader(abc.ABC):
    """Decodes images whenever they are needed, as they were when they were looked through.

    Attributes:
        labels: int32 `(n,)`, class indices from 0.
        digests: of each image and its label, see `digests.digest`.
        image_shape: `(height, width, channels)` that each is brought to.
        threads: how many images may be decoded at once.
        failure: why an image could not be read, since TensorFlow forgets what an error was.
    """

    def __init__(
        self,
        labels: np.ndarray,
        digests: np.ndarray,
        image_shape: tuple[int, int, int],
        threads: int = THREADS,
    ) -> None:
        self.labels, self.digests, self.image_shape = labels, digests, image_shape
        self.threads = threads
        self.failure: str | None = None

    @abc.abstractmethod
    def decode(self, place: int) -> np.ndarray:
        """One image, uint8 of any size.

        Raises:
            UnusableImageError: if it cannot be read.
        """

    @abc.abstractmethod
    def name(self, place: int) -> str:
        """What messages call one image."""

    def images(self, places: np.ndarray) -> np.ndarray:
        """Some of the images, uint8 `(n, height, width, channels)`.

        Raises:
            RunFailedError: if one is gone, or no longer what it was.
        """
        images = np.empty((len(places), *self.image_shape), np.uint8)
        for row, place in enumerate(places):
            images[row] = self._image(int(place))
        return images

    def _image(self, place: int) -> np.ndarray:
        try:
            image = fitted(self.decode(place), self.image_shape)
        except pictures.UnusableImageError as error:
            raise self._failed(place, str(error)) from error
        if digest(image, self.labels[place]) != self.digests[place]:
            raise self._failed(place, "is no longer the image that it was")
        return image

    def _failed(self, place: int, why: str) -> RunFailedError:
        self.failure = (
            f"{self.name(place)} {why}. It was a good image when all were looked through. "
            "Bring it back as it was, and go on."
        )
        return RunFailedError(self.failure)


class FileReader(Reader):
    """Decodes image files.

    Args:
        paths: the files.
        names: what messages call them.
        labels, digests, image_shape, threads: of `Reader`.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        names: Sequence[str],
        labels: np.ndarray,
        digests: np.ndarray,
        image_shape: tuple[int, int, int],
        threads: int = THREADS,
    ) -> None:
        super().__init__(labels, digests, image_shape, threads)
        self._paths, self._names = paths, names

    def decode(self, place: int) -> np.ndarray:
        """The image of one file, as it is shown."""
        path = self._paths[place]
        try:
            return pictures.decode(path)[0]
        except pictures.UnusableImageError as error:
            if os.path.isdir(path.parent):
                raise
            why = f"is gone, and with it its folder {path.parent}"
            raise pictures.UnusableImageError(why) from error

    def name(self, place: int) -> str:
        """The file, within its folder."""
        return self._names[place]


def fitted(pixels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """A decoded image, resized, and with grey in every channel where others have colours."""
    if pixels.shape[:2] != shape[:2]:
        pixels = resize(pixels, shape[:2]).numpy()
    return np.broadcast_to(pixels, shape)


@dataclasses.dataclass(frozen=True, eq=False)
class ImageFiles:
    """Labelled images in files; to be used like an `ImageSet`.

    Attributes:
        reader: decodes them.
        places: int64 `(n,)`, which of the reader's images, in which order.
    """

    reader: Reader
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.places)

    @property
    def failure(self) -> str | None:
        """Why an image could not be read again, after one could not."""
        return self.reader.failure

    @property
    def labels(self) -> np.ndarray:
        """int32 `(n,)`, class indices from 0."""
        return self.reader.labels[self.places]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """`(n, height, width, channels)`."""
        return (len(self), *self.reader.image_shape)

    @property
    def digests(self) -> np.ndarray:
        """Of each image and its label."""
        return self.reader.digests[self.places]

    def take(self, n: int) -> ImageFiles:
        """The first `n` images, or all of them if there are fewer."""
        if n < 0:
            raise UserError(f"The number of images to take must be at least 0. Received: {n}.")
        return self.part(slice(n))

    def part(self, rows: slice) -> ImageFiles:
        """The images of a slice."""
        return ImageFiles(self.reader, self.places[rows])

    def select(self, indices: np.ndarray) -> ImageFiles:
        """The images at `indices` (int, any order)."""
        return ImageFiles(self.reader, self.places[indices])

    def rows(self, rows: slice) -> ImageSet:
        """The images of a slice, read into memory."""
        places = self.places[rows]
        threads = self.reader.threads
        with pictures.no_limits(), ThreadPoolExecutor(threads) as pool:
            parts = list(pool.map(self.reader.images, np.array_split(places, threads)))
        return ImageSet(np.concatenate(parts), self.reader.labels[places])

    @property
    def unit_images(self) -> np.ndarray:
        """The images as float32 in [0, 1], read into memory."""
        return self.rows(slice(None)).unit_images
