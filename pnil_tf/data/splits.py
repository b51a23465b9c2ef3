"""Splitting labelled images into class-stratified parts, the same on every machine."""

from __future__ import annotations

import hashlib

import numpy as np

from pnil_tf.data.image_set import ImageSet
from pnil_tf.data.types import Images


def canonical_order(images: Images) -> np.ndarray:
    """An order that depends on the images alone.

    Every source delivers the same images in another order. Sorted by their digests, they yield
    the same split, and the same training run, wherever they came from.

    Returns:
        int64 `(n,)`, a permutation of 0 to n - 1.
    """
    return np.argsort(images.digests, kind="stable")


def content_sha256(*sets: ImageSet) -> str:
    """A fingerprint of the images and labels of each set, whatever their order."""
    digest = hashlib.sha256()
    for images in sets:
        ordered = images.select(canonical_order(images))
        digest.update(np.ascontiguousarray(ordered.images).data)
        digest.update(np.ascontiguousarray(ordered.labels, "<i4").data)
    return digest.hexdigest()


def stratified_split(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, ...]:
    """Split images in two parts that hold the same share of every class.

    Both parts are interleaved: a prefix of either holds every class in proportion, too, so that
    the first thousand images are a fair sample of the whole.

    Args:
        labels: int `(n,)`, class indices.
        fraction: the share of the first part, from 0 to 1.
        seed: from 0 to 2**32 - 1.

    Returns:
        Two int64 vectors of indices, disjoint, together 0 to n - 1. The first has
        `floor(fraction * n)` of them, and of each class within one of `fraction`.
    """
    # RandomState and not default_rng: NumPy promises that its numbers never change.
    random = np.random.RandomState(seed)
    parts: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    seen = 0
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        # Rounding the running total, not each class, keeps the whole at its exact size.
        cut = _floor(fraction * (seen + len(members))) - _floor(fraction * seen)
        seen += len(members)
        parts[0].append(members[:cut])
        parts[1].append(members[cut:])
    first, second = (_interleave(groups, random) for groups in parts)
    return first, second


def _floor(value: float) -> int:
    # 0.2 * 15 is 3.0000000000000004 and 0.29 * 100 is 28.999999999999996: both are whole numbers.
    return int(np.floor(value + 1e-9))


def _interleave(groups: list[np.ndarray], random: np.random.RandomState) -> np.ndarray:
    """Merge the groups so that each is spread evenly over the whole, at random within that."""
    if not groups:
        return np.zeros((0,), np.int64)
    positions = np.concatenate(
        [
            (np.arange(len(group)) + random.random_sample(len(group))) / max(len(group), 1)
            for group in groups
        ]
    )
    return np.concatenate(groups)[np.argsort(positions, kind="stable")]
