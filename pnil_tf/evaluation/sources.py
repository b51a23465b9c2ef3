"""The first images and labels of whatever holds them: arrays, tensors or a data set in batches."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pnil_tf.errors import UserError
from pnil_tf.evaluation.images import mispaired

_BLOCKS = 20
"""So many images or more of two classes hardly stand in blocks by chance."""

logger = logging.getLogger(__name__)

_NAMES = (("image", "label"), ("images", "labels"), ("x", "y"))


def gathered(x: Any, y: Any, count: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Reads no more images than are needed.

    Args:
        x: Images: an array, a tensor, or lists of numbers; or images with labels: a
            `tf.data.Dataset` (in batches or not) or a `keras.utils.PyDataset`, whose elements are
            `(images, labels)`, with weights or not, or a dictionary of `image` and `label`.
        y: Labels, where `x` has none: class numbers, or rows of which one number is 1.
        count: How many images, at most; the first ones, unless they are sorted by class: then
            they are mixed before, in an order that depends on their number alone.

    Returns:
        Images and labels `(n,)`, and what they came from, one phrase.

    Raises:
        UserError: If labels are missing, or given twice, or there are no images; or if a data set
            is sorted by class and not read to its end, or begins again before there are enough.
    """
    if isinstance(x, tf.data.Dataset):
        found = "tf.data", _of_dataset(x)
    elif isinstance(x, keras.utils.PyDataset):
        found = "PyDataset", (x[i] for i in range(_batches(x)))
    else:
        images = _array(x, "images", "x")
        if y is None:
            raise UserError("Labels are missing: pass y, the class number of each image.")
        labels = _array(y, "labels", "y")
        if images.shape[:1] != labels.shape[:1]:
            raise mispaired(images, labels)
        images, labels = _mixed(images, class_numbers(labels))
        return images[:count], labels[:count], "arrays"
    source, batches = found
    if y is not None:
        raise UserError(
            f"A {type(x).__name__} holds the labels itself, so y says them twice. Leave y out."
        )
    images, labels, ended = _first(batches, count)
    if _in_blocks(labels) and not ended:
        raise UserError(
            f"The data set is sorted by class, so its first {len(labels)} images say nothing of "
            "the others. Shuffle it (image_dataset_from_directory does with shuffle=True and a "
            "seed), or ask for all of its images."
        )
    if isinstance(x, tf.data.Dataset) and x.cardinality() == tf.data.INFINITE_CARDINALITY:
        different = len({image.tobytes() for image in images})
        if different < len(images):
            raise UserError(
                f"The data set begins again after some images, and copies count once. Received: "
                f"{different} different ones among {len(images)}. Leave repeat() out."
            )
    return *_mixed(images, labels), source


def _in_blocks(labels: np.ndarray) -> bool:
    """Whether images stand class by class."""
    if labels.ndim != 1 or len(labels) < _BLOCKS:
        return False
    changes = int((labels[1:] != labels[:-1]).sum())
    return changes + 1 == len(np.unique(labels))


def _mixed(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images that stand class by class in another order: some of them are to stand for all."""
    if len(images) != len(labels) or not _in_blocks(labels):
        return images, labels
    logger.info("The images are sorted by class: they are mixed before any are chosen.")
    order = np.random.default_rng(0).permutation(len(images))
    return images[order], labels[order]


def _array(values: Any, what: str, name: str) -> np.ndarray:
    """An array, tensor or list as an array of at least one axis."""
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):  # lists of unequal lengths
        array = np.asarray(None)
    if array.ndim == 0 or array.dtype == object:
        raise UserError(
            f"The {what} come as an array, or x as a tf.data.Dataset or PyDataset of both. "
            f"Received: {name} of the type {type(values).__name__}, which is no array of numbers."
        )
    return array


def class_numbers(labels: Any) -> np.ndarray:
    """Labels as class numbers `(n,)`, where they are rows of which one number is 1."""
    labels = np.asarray(labels)
    rows = labels.ndim == 2 and labels.shape[1] > 1 and labels.dtype.kind in "buif"
    if rows and np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all():
        return labels.argmax(axis=1)
    return labels


def _first(batches: Iterator[Any], count: int) -> tuple[np.ndarray, np.ndarray, bool]:
    """The first images and labels, and whether there are no more (asked of sorted ones alone)."""
    images, labels, found = [], [], 0
    for batch in batches:
        x, y = (np.asarray(part) for part in _pair(batch))
        images.append(x)
        labels.append(class_numbers(y))
        found += len(x)
        if found >= count:
            break
    if not found:
        raise UserError("The data set has no images. If it is a file's, check its path.")
    shapes = sorted({batch.shape[1:] for batch in images})
    if len(shapes) > 1:
        raise UserError(
            "The images of an evaluation have one size. Received: images of the shapes "
            f"{shapes[0]} and {shapes[1]}. Resize them, for example by tf.image.resize."
        )
    numbers = np.concatenate(labels)
    ended = found <= count and _in_blocks(numbers) and next(batches, None) is None
    return np.concatenate(images)[:count], numbers[:count], ended


def _of_dataset(dataset: tf.data.Dataset) -> Iterator[Any]:
    image, _ = _pair(dataset.element_spec)
    rank = getattr(getattr(image, "shape", None), "rank", None)
    if rank not in (3, 4):
        raise UserError(
            "The elements must be images (height, width, channels), or batches of them. "
            f"Received: {image}."
        )
    return iter(dataset.batch(1) if rank == 3 else dataset)


def _batches(dataset: keras.utils.PyDataset) -> int:
    batches = dataset.num_batches
    if batches is None:
        raise UserError(
            "The PyDataset is endless, and an evaluation is one of certain images. Give it a "
            "__len__."
        )
    return int(batches)


def _pair(element: Any) -> tuple[Any, Any]:
    """Images and labels of one element."""
    if isinstance(element, dict):
        for image, label in _NAMES:
            if image in element and label in element:
                return element[image], element[label]
        raise UserError(
            "An element must have an 'image' and a 'label'. Received: "
            f"{', '.join(map(repr, element))}. Map the data set to pairs (image, label)."
        )
    if not isinstance(element, (tuple, list)) or len(element) not in (2, 3):
        raise UserError(
            "The elements of the data set must be pairs (images, labels). Received: "
            f"{type(element).__name__}. Zip the images with their labels."
        )
    return element[0], element[1]
