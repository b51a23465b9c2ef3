"""How much lower one accuracy is than another, and whether that is beyond chance."""

from __future__ import annotations

import numpy as np

from pnil_tf.attacks.attack import Kind
from pnil_tf.attacks.registry import attacks_of_kind
from pnil_tf.evaluation.finding import Weight
from pnil_tf.evaluation.obfuscation.evidence import SQUARE, Evidence
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


def by_scores(evidence: Evidence) -> tuple[np.ndarray, Interval] | None:
    """What gradients leave, and how much of it Square takes, on the images that both have.

    None where either was left out.
    """
    square = evidence.attacks.get(SQUARE)
    names = [name for name in attacks_of_kind(Kind.GRADIENT) if name in evidence.attacks]
    if square is None or not names:
        return None
    n = min(len(square), *(len(evidence.attacks[name]) for name in names))
    by_gradients = [evidence.attacks[name][:n] for name in names]
    if evidence.stochastic:  # of several noisy shares of one image the lowest is too low
        left = min(by_gradients, key=lambda share: float(share.mean()))
        return left, drop(left, square)
    left = np.min(by_gradients, axis=0)
    return left, drop(left, np.minimum(left, square[:n]))
