"""Batches that Grain has decoded from files in the background, as a `tf.data` pipeline."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from pnil_tf.data import memory, pictures
from pnil_tf.data.image_files import ImageFiles
from pnil_tf.errors import UserError, argument
from pnil_tf.logs import errors_only

# Batches of bytes that wait where memory allows, so that the step does not.
_WAITING_BATCHES = 4
_ENDLESS = sys.maxsize


def grain_is_there() -> bool:
    """Whether Grain is installed."""
    return importlib.util.find_spec("grain") is not None


def require_grain() -> None:
    """Refuses to read from files without Grain.

    Raises:
        UserError: if it is not installed.
    """
    if not grain_is_there():
        raise UserError(
            f"{argument('data_in_memory', False)} reads images from files by Grain, which is not "
            "installed. Install it by pip install 'pnil_tf[streaming]'."
        )


def held_in_memory(name: str, count: int, shape: tuple[int, int, int], wanted: str) -> bool:
    """Whether images are to be held in memory, or read from their files as they are needed.

    Args:
        name: of the data set, for messages.
        count: how many images there are in all splits that are read.
        shape: `(height, width, channels)` of each.
        wanted: one of `IN_MEMORY`; see `DataSettings`.

    Raises:
        UserError: if memory should hold more than it can, or Grain is needed and is not there.
    """
    if wanted == "false":
        require_grain()
        return False
    if wanted == "auto" and grain_is_there() and not memory.fits(count, shape):
        return False
    advice = "let " + argument("data_in_memory", "auto") + " read them from their files"
    if not grain_is_there():
        advice += ", for which pip install 'pnil_tf[streaming]' is needed"
    memory.check_fits(name, count, shape, advice=advice)
    return True


def file_batches(
    files: ImageFiles,
    indices_of: Callable[[int], np.ndarray],
    first: int,
    last: int | None,
    batch_size: int | None,
) -> tf.data.Dataset:
    """Batches of images, decoded in threads ahead of those that are asked for.

    A batch follows from its number alone, so a stream begins anywhere without reading what would
    have come before.

    Args:
        files: the images.
        indices_of: which of them make up the batch of a number.
        first: number of the first batch.
        last: number of the first batch that does not come; `None` for no end.
        batch_size: images in every batch; `None` if the last one may be smaller.

    Returns:
        Batches `(x, y)`: uint8 `(b, h, w, c)`, int32 `(b,)`.
    """
    rows = batch_size or len(indices_of(first))  # the last one may be smaller
    batch_bytes = max(rows, 1) * math.prod(files.shape[1:])

    def batch_of(number: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = files.select(indices_of(number))
        return chosen.reader.images(chosen.places), chosen.labels

    def read() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        grain = _grain()
        numbers = grain.MapDataset.range(first, _ENDLESS if last is None else last)
        # Each thread decodes one of the batches that wait.
        waiting = memory.at_once(batch_bytes, max(files.reader.threads, _WAITING_BATCHES))
        options = grain.ReadOptions(min(files.reader.threads, waiting), waiting)
        iterator = iter(numbers.map(batch_of).to_iter_dataset(options))
        with pictures.no_limits(), contextlib.closing(iterator):
            yield from iterator

    signature = (
        tf.TensorSpec((batch_size, *files.shape[1:]), tf.uint8),
        tf.TensorSpec((batch_size,), tf.int32),
    )
    count = tf.data.INFINITE_CARDINALITY if last is None else last - first
    stream = tf.data.Dataset.from_generator(read, output_signature=signature)
    return stream.apply(tf.data.experimental.assert_cardinality(count))


def _grain() -> Any:
    with errors_only("absl"):  # it looks for JAX, and would warn that there is none
        import grain
    return grain
