"""The first images and labels of whatever holds them: arrays, tensors or a data set in batches."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from pnil_tf.errors import UserError
from pnil_tf.evaluation.images import mispaired

_BLOCKS = 20
"""So many images or more of two classes hardly stand in blocks by chance."""

logger = logging.getLogger(__name__)

_NAMES = (("image", "label"), ("images", "labels"), ("x", "y"))


class Gathered(NamedTuple):
    """Images, and where they came from.

    Args:
        images: `(n, ...)`.
        labels: `(n,)`; `None` where there are none.
        source: What they came from, one phrase.
        places: int `(n,)`, which of the images given each of them is.
    """

    images: np.ndarray
    labels: np.ndarray | None
    source: str
    places: np.ndarray


def gathered(x: Any, y: Any, count: int, labelled: bool = True) -> Gathered:
    """Reads no more images than are needed.

    Args:
        x: Images: an array, a tensor, or lists of numbers; or images with labels: a
            `tf.data.Dataset` (in batches or not) or a `keras.utils.PyDataset`, whose elements are
            `(images, labels)`, with weights or not, or a dictionary of `image` and `label`.
        y: Labels, where `x` has none: class numbers, or rows of which one number is 1.
        count: How many images, at most; the first ones, unless they are sorted by class: then
            they are mixed before, in an order that depends on their number alone.
        labelled: Whether there must be labels; elements of a data set may be images alone
            otherwise.

    Raises:
        UserError: If labels are missing, or given twice, or there are no images; or if a data set
            is sorted by class and not read to its end, or begins again before there are enough.
    """
    if isinstance(x, tf.data.Dataset):
        found = "tf.data", _of_dataset(x, labelled)
    elif isinstance(x, keras.utils.PyDataset):
        found = "PyDataset", (x[i] for i in range(_batches(x)))
    else:
        images = _array(x, "images", "x")
        if y is None and labelled:
            raise UserError("Labels are missing: pass y, the class number of each image.")
        if y is None:
            return _chosen(images[:count], None, "arrays", count)
        labels = _array(y, "labels", "y")
        if images.shape[:1] != labels.shape[:1]:
            raise mispaired(images, labels)
        return _chosen(images, class_numbers(labels), "arrays", count)
    source, batches = found
    if y is not None:
        raise UserError(
            f"Labels of a {type(x).__name__} come in its elements, beside their images, and not "
            "as y. Leave y out, and let the elements be pairs (images, labels)."
        )
    images, found_labels, ended = _first(batches, count, labelled)
    if found_labels is not None and _in_blocks(found_labels) and not ended:
        raise UserError(
            f"The data set is sorted by class, so its first {len(images)} images say nothing of "
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
    return _chosen(images, found_labels, source, count)


def _in_blocks(labels: np.ndarray) -> bool:
    """Whether images stand class by class."""
    if labels.ndim != 1 or len(labels) < _BLOCKS:
        return False
    changes = int((labels[1:] != labels[:-1]).sum())
    return changes + 1 == len(np.unique(labels))


def _chosen(images: np.ndarray, labels: np.ndarray | None, source: str, count: int) -> Gathered:
    """The first images; of those that stand class by class some that are to stand for all."""
    if labels is None or len(images) != len(labels) or not _in_blocks(labels):
        labels = None if labels is None else labels[:count]
        return Gathered(images[:count], labels, source, np.arange(min(count, len(images))))
    logger.info("The images are sorted by class: they are mixed before any are chosen.")
    places = np.random.default_rng(0).permutation(len(images))[:count]
    return Gathered(images[places], labels[places], source, places)


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


def _first(
    batches: Iterator[Any], count: int, labelled: bool
) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """The first images and labels, and whether there are no more (asked of sorted ones alone)."""
    images, labels, found = [], [], 0
    for batch in batches:
        x, y = _pair(batch, labelled)
        images.append(np.asarray(x))
        if y is not None:
            labels.append(np.atleast_1d(y))
        found += len(images[-1])
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
    if not labels:
        return np.concatenate(images)[:count], None, False
    other = next((row for row in labels if row.shape[1:] != labels[0].shape[1:]), None)
    if other is not None:
        raise UserError(
            "The labels of an evaluation have one form. Received: batches of them of the shapes "
            f"{labels[0].shape} and {other.shape}. Give each image a class number, or each a row "
            "of which one number is 1."
        )
    numbers = class_numbers(np.concatenate(labels))
    ended = found <= count and _in_blocks(numbers) and next(batches, None) is None
    return np.concatenate(images)[:count], numbers[:count], ended


def _of_dataset(dataset: tf.data.Dataset, labelled: bool) -> Iterator[Any]:
    image, _ = _pair(dataset.element_spec, labelled)
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


def _pair(element: Any, labelled: bool) -> tuple[Any, Any]:
    """Images and labels of one element; no labels where it is images alone and may be."""
    if not labelled and not isinstance(element, (dict, tuple, list)):
        return element, None
    if not labelled and isinstance(element, (tuple, list)) and len(element) == 1:
        return element[0], None
    if isinstance(element, dict):
        for image, label in _NAMES:
            if image in element and label in element:
                return element[image], element[label]
        alone = [image for image, _ in _NAMES if image in element]
        if not labelled and len(alone) == 1 and not any(label in element for _, label in _NAMES):
            return element[alone[0]], None
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
