"""Images and labels as a user hands them in, and as the evaluation works on them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from scipy import stats

from pnil_tf.batching import batches_of
from pnil_tf.contract.batches import check_array, check_bytes
from pnil_tf.contract.classifier import Classifier, has_answer
from pnil_tf.contract.pixel_range import BYTES, DARK_BYTES, SIGNED, UNIT, PixelRange
from pnil_tf.errors import UserError, argument
from pnil_tf.evaluation.statistics import wilson
from pnil_tf.evaluation.target import Target

_TRIED = 500
_BATCH = 100
_CHANCE = 0.05

logger = logging.getLogger(__name__)


def mispaired(images: np.ndarray, labels: np.ndarray) -> UserError:
    """What to raise where images and labels are not as many, or labels are no numbers."""
    return UserError(
        f"{len(images)} images need as many whole-number labels. "
        f"Received: {labels.dtype} of shape {labels.shape}."
    )


def digests_of(x: np.ndarray) -> np.ndarray:
    """The sha256 of each image, uint8 `(n, 32)`, by which it is known elsewhere."""
    each = [hashlib.sha256(np.ascontiguousarray(image, "<f4").data).digest() for image in x]
    return np.frombuffer(b"".join(each), np.uint8).reshape(len(x), -1)


def warn_of_copies(digests: np.ndarray) -> None:
    """Says so where images are copies of others: intervals take each for one of its own.

    A few are usual in real data; a tenth of them comes from a data set that repeats itself.

    Args:
        digests: What `digests_of` makes of the images.
    """
    different = len(np.unique(digests, axis=0))
    if different < 0.9 * len(digests):
        logger.warning(
            "Of %d images only %d are different: copies, as ds.repeat() makes them, tell nothing "
            "new, and the intervals are narrower than what is known. Pass each image once.",
            len(digests),
            different,
        )


def first_images(images: Any, labels: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first images, as they are, and their labels, int32.

    Args:
        images: Numbers of the shape `(n, height, width, channels)`.
        labels: Class numbers `(n,)` or `(n, 1)`.
        count: How many of them; all if there are fewer.

    Raises:
        UserError: If they are none.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim == 4 and not len(images):
        raise UserError(
            f"There are no images to evaluate. Received: an array of the shape {images.shape}. "
            "Pass at least one, with its label."
        )
    if images.ndim != 4 or not images.size or images.dtype.kind not in "buif":
        grey = " Grey images get their channel by x[..., None]." if images.ndim == 3 else ""
        raise UserError(
            "Images must be numbers of the shape (n, height, width, channels). "
            f"Received: {images.dtype} of shape {images.shape}.{grey}"
        )
    if labels.dtype.kind in "SUO" and labels.size:
        raise UserError(
            f"Labels are the numbers of classes. Received: {str(labels.flat[0])!r} among them. "
            "Number the classes in the order of the model's outputs, for example by "
            "numpy.unique(labels, return_inverse=True)."
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and len(labels) == len(images):
        raise UserError(
            "An image has one label here, the number of its class. Received: labels of shape "
            f"{labels.shape}. Pass labels.argmax(axis=1) if each row names one class; several "
            "labels for one image are not supported."
        )
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "buif":
        raise mispaired(images, labels)
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise UserError(
            "Labels are the numbers of classes. Received: NaN or infinity among them. Leave out "
            "the images whose class is not known."
        )
    limits = np.iinfo(np.int32)  # as which they are kept: others would come round again
    if not (labels.min() >= limits.min and labels.max() <= limits.max):
        raise UserError(
            f"Labels must be class indices from 0. Received: {labels.min()} to {labels.max()}."
        )
    if (labels != np.floor(labels)).any():
        raise UserError(
            f"Labels are the numbers of classes. Received: {labels[labels != np.floor(labels)][0]} "
            "among them."
        )
    if count > len(images):
        logger.warning(
            "There are fewer images than %d (%s): all of them are used, %d.",
            count,
            argument("images"),
            len(images),
        )
    return images[:count], labels[:count].astype(np.int32)


def unit_images(images: np.ndarray, pixel_range: PixelRange, said: bool = True) -> np.ndarray:
    """Images as the evaluation works on them, float32 in [0, 1].

    Args:
        images: uint8, then from 0 to 255 whatever the range; other numbers in the range.
        pixel_range: The pixels that the model takes.
        said: Whether somebody has said so.

    Raises:
        UserError: If they are not in this range, or obviously belong to another one.
    """
    if images.dtype == np.uint8:
        if images.max() == 1 and pixel_range != BYTES:
            raise UserError(
                "Images of the type uint8 have pixels from 0 to 255. Received: zeros and ones "
                "alone. If 1 means white, pass images * 255, or floats in the model's range."
            )
        if not (said and pixel_range == BYTES):
            check_bytes(int(images.max()), "Images")
        return images.astype(np.float32) / 255.0
    pixels = images.astype(np.float32)
    if not np.isfinite(pixels).all():
        raise UserError("Pixels must be finite numbers. Received: NaN or infinity among them.")
    check_array(pixel_range, images)
    white = float(images.max())
    if not said and pixel_range == BYTES and 1 < white < DARK_BYTES:
        raise UserError(
            f"What the model does to its pixels first suits {pixel_range}. Received: floats up to "
            f"{white:g}, and no {argument('pixel_range')}. Pass "
            f"{argument('pixel_range', (0, white))} if {white:g} means white, or "
            f"{argument('pixel_range', (0, 255))} if the images are as dark as that."
        )
    return np.clip(pixel_range.to_unit(pixels), 0.0, 1.0).astype(np.float32)


def check_classes(target: Target, y: np.ndarray, data: Mapping[str, Any]) -> None:
    """Refuses labels that are no classes of the model.

    Args:
        target: The model.
        y: int32 labels.
        data: What is known of the data; its `num_classes`, if there is one, must be the model's.

    Raises:
        UserError: If so.
    """
    classes = data.get("num_classes")
    if classes is not None and classes != target.num_classes:
        raise UserError(
            f"The model distinguishes {target.num_classes} classes, but the data set has "
            f"{classes}. Evaluate it on the data it was trained for."
        )
    if y.min() < 0 or y.max() >= target.num_classes:
        raise UserError(
            f"Labels must be from 0 to {target.num_classes - 1}, the model's classes. "
            f"Received: {y.min()} to {y.max()}."
        )


def range_is_told(classifier: Classifier, images: np.ndarray) -> bool:
    """Whether a model's own preprocessing, or its images, tell the pixels that it takes.

    Bytes are scaled to whatever that is, so they tell nothing.
    """
    return classifier.found_range is not None or images.dtype != np.uint8


def unknown_range(why: str) -> UserError:
    """What to raise where nothing tells the pixels that a model takes."""
    return UserError(
        f"Nothing tells which pixels the model takes: {why}. Received: images of uint8 and no "
        f"{argument('pixel_range')}. Say which: {argument('pixel_range', (0, 1))} or "
        f"{argument('pixel_range', (0, 255))}, for example."
    )


def check_accuracy_elsewhere(
    target: Target, x: np.ndarray, y: np.ndarray, said: bool, told: bool = True
) -> None:
    """Refuses a pixel range in which a model recognises clearly less than in another one.

    Args:
        target: The model.
        x: float32 images in [0, 1].
        y: int32 labels.
        said: Whether somebody has said that this is the range. Then it is refused only if the
            model does no better than guessing in it, and so it is where noise cannot be switched
            off: a wider range drowns it.
        told: Whether the model's preprocessing or the images tell the range. Where nothing does,
            a model must recognise clearly more in it than in the others.

    Raises:
        UserError: If so.
    """
    x, y = x[:_TRIED], y[:_TRIED]
    guessing = np.bincount(y).max() / len(y)
    right = _right(target, target.pixel_range, x, y)
    here = wilson(right)
    better_than_guessing = here.low > guessing
    drowned = target.stochastic and not target.silent
    if drowned and not (told or said):
        raise unknown_range(
            "its noise cannot be switched off, to see in which range it recognises more"
        )
    if better_than_guessing and (said or drowned):
        return
    others = [other for other in (UNIT, BYTES, SIGNED) if other != target.pixel_range]
    right_in = {other: _right(target, other, x, y) for other in others}
    found = {other: wilson(share) for other, share in right_in.items()}
    best = max(others, key=lambda other: found[other].value)
    if found[best].low <= max(guessing, here.high):
        for other, share in right_in.items():
            if not (told or said or _surely_more(right, share)):
                raise UserError(
                    f"Nothing tells whether the model takes pixels in {target.pixel_range} or in "
                    f"{other}: it is right on {here.value:.1%} of the images scaled to the one, "
                    f"and on {found[other].value:.1%} scaled to the other, which does not tell "
                    "them apart. Received: images of uint8 and no "
                    f"{argument('pixel_range')}. Say which: "
                    f"{argument('pixel_range', (target.pixel_range.low, target.pixel_range.high))} "
                    f"or {argument('pixel_range', (other.low, other.high))}."
                )
        return
    to_set = argument("pixel_range", (best.low, best.high))
    if better_than_guessing:
        insisting = (target.pixel_range.low, target.pixel_range.high)
        to_set += f", or {argument('pixel_range', insisting)} if that is right"
    raise UserError(
        f"The model does not take pixels in {target.pixel_range}, it seems: on those its clean "
        f"accuracy is {here.value:.1%} (guessing: {guessing:.1%}), on pixels in {best} it is "
        f"{found[best].value:.1%}. Set {to_set}."
    )


def _surely_more(right: np.ndarray, other: np.ndarray) -> bool:
    """Whether more of the same images are right here than there, by a sign test at 5 %."""
    more, fewer = int((right > other).sum()), int((right < other).sum())
    if not more:
        return False
    return bool(stats.binomtest(more, more + fewer, alternative="greater").pvalue < _CHANCE)


def _right(target: Target, pixel_range: PixelRange, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether each image is recognised in a pixel range, float32 `(n,)`; noise would blur it."""
    pixels = target.pixel_range.to_unit(pixel_range.from_unit(x))
    predict = tf.function(target.noise_free(), reduce_retracing=True, autograph=False)
    size = min(_BATCH, target.room.points)
    logits = [predict(tf.constant(pixels[rows])) for rows in batches_of(len(x), size)]
    answers = np.concatenate(logits)
    return (has_answer(answers) & (answers.argmax(axis=1) == y)).astype(np.float32)
