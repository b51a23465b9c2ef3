"""How much lower one accuracy is than another, and whether that is beyond chance."""

from __future__ import annotations

import numpy as np

from pnil_tf.evaluation.finding import Weight
from pnil_tf.evaluation.statistics import Interval, paired_difference

TOLERANCE = 0.02
"""A difference in accuracy that no check makes anything of."""

MUCH = 0.1
"""A difference that a better attack alone hardly explains, while misleading gradients do."""


def drop(before: np.ndarray, after: np.ndarray) -> Interval:
    """How far accuracy falls from `before` to `after`, on the images both have."""
    return paired_difference(before, after)


def beyond(difference: Interval, tolerance: float = TOLERANCE) -> bool:
    """Whether a difference is larger than its tolerance, and its interval excludes zero."""
    return difference.value > tolerance and difference.low > 0


def by_size(difference: Interval) -> Weight:
    """Small differences cast doubt on the attack, large ones on the model's gradients."""
    return Weight.HIDES if difference.value > MUCH and difference.low > TOLERANCE else Weight.DOUBT
