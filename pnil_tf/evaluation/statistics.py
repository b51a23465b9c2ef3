"""Figures and how sure they are: intervals over images, and the scatter of the noise apart."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

Z95 = 1.959963984540054
"""Quantile of the normal distribution that belongs to two-sided 95 %."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, figure: Mapping[str, Any]) -> Interval:
        """The interval of a record's figure, which has `value`, `low` and `high`."""
        return cls(figure["value"], figure["low"], figure["high"])

    def to_json(self) -> dict[str, float]:
        """`value`, `low` and `high`."""
        return dataclasses.asdict(self)


def wilson(fraction_right: np.ndarray) -> Interval:
    """Returns the mean and its Wilson (1927) score interval over images.

    Args:
        fraction_right: `(n,)`, in [0, 1], n >= 1: for each image the share of draws that were
            right. Shares strictly between 0 and 1 vary less than coin flips of the same mean,
            so that the interval errs on the wide side for stochastic models.
    """
    n = len(fraction_right)
    p = float(np.mean(fraction_right, dtype=np.float64))
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2))
    # The bounds at 0 and 1 are exact; rounding must not move the interval off the value.
    return Interval(p, max(min(centre - half, p), 0.0), min(max(centre + half, p), 1.0))


def paired_difference(a: np.ndarray, b: np.ndarray) -> Interval:
    """Returns the mean of `a - b` over the images both have, with an interval.

    The interval is that of Bonett and Price (2012) for paired proportions, which adds one
    image of either sign, so that few or no differences do not pass for certainty. The value is
    the plain mean.

    Args:
        a: `(n,)` in [0, 1], per-image shares; image i is the same image in `a` and `b`.
        b: `(m,)` in [0, 1]. The longer one is cut to the shorter one's length.
    """
    n = min(len(a), len(b))
    differences = np.asarray(a[:n], np.float64) - np.asarray(b[:n], np.float64)
    padded = np.concatenate([differences, [1.0, -1.0]])
    half = Z95 * float(np.std(padded)) / math.sqrt(len(padded))
    value, centre = float(np.mean(differences)), float(np.mean(padded))
    return Interval(value, min(centre - half, value), max(centre + half, value))


def noise_std(fraction_right: np.ndarray, draws: int) -> float:
    """Returns the standard deviation that the mean has from the judge's finite draws alone.

    Args:
        fraction_right: `(n,)`, the share of `draws` draws that were right.
        draws: Draws for each image; with one draw the scatter cannot be told and counts as 0.
    """
    if draws < 2:
        return 0.0
    p = np.asarray(fraction_right, np.float64)
    return float(np.sqrt(np.sum(p * (1 - p) / (draws - 1))) / len(p))


def figure(votes: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Returns what a result file says about the accuracy on one set of judged images.

    Args:
        votes: int `(n, draws)`, the class that each draw chose; -1 where it chose none.
        labels: int `(n,)`.

    Returns:
        `value, low, high` (mean per-draw accuracy, the headline), `images`, `draws`,
        `noise_std`, and `majority_vote` and `worst_draw` with a `value, low, high` each: a
        majority vote over the draws (ties go to the smaller class), and the stricter count of
        images that every single draw gets right.
    """
    right = votes == labels[:, np.newaxis]
    share = right.mean(axis=1)
    return {
        **wilson(share).to_json(),
        "images": len(labels),
        "draws": votes.shape[1],
        "noise_std": noise_std(share, votes.shape[1]),
        "majority_vote": wilson(majority(votes) == labels).to_json(),
        "worst_draw": wilson(right.all(axis=1)).to_json(),
    }


def majority(votes: np.ndarray) -> np.ndarray:
    """Returns the class `(n,)` with the most votes of `(n, draws)`, -1 for images without any."""
    classes = max(int(votes.max(initial=-1)), 0) + 1
    counts = np.stack([(votes == c).sum(axis=1) for c in range(classes)], axis=1)
    return np.where(counts.any(axis=1), counts.argmax(axis=1), -1)


def weakest(shares: dict[str, np.ndarray]) -> str:
    """The name of the attack that leaves the lowest mean accuracy: the paper's Min.

    Two attacks are compared on the images that both attacked: an easier or harder part of the
    images is no better or worse attack. Of equals the one on more images is named.

    Args:
        shares: For each attack `(n_k,)`, the shares of right draws of the first n_k images.
    """
    best, *others = sorted(shares, key=lambda name: len(shares[name]), reverse=True)
    for name in others:
        common = len(shares[name])
        if shares[name].mean() < shares[best][:common].mean():
            best = name
    return best
