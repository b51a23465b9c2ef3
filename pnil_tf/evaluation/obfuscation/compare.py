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


def by_scores(evidence: Evidence) -> tuple[np.ndarray, np.ndarray] | None:
    """What gradients leave, and what Square then leaves of it, on the images that both have.

    None where either was left out.
    """
    square = evidence.attacks.get(SQUARE)
    names = [name for name in attacks_of_kind(Kind.GRADIENT) if name in evidence.attacks]
    if square is None or not names:
        return None
    n = min(len(square), *(len(evidence.attacks[name]) for name in names))
    return _lowest(evidence, names, n), _lowest(evidence, [*names, SQUARE], n)


def _lowest(evidence: Evidence, names: list[str], images: int) -> np.ndarray:
    """What the attack leaves of each image that did worst on it, `(images,)`.

    Of several noisy shares of one image the lowest is too low. So either half of the draws chooses
    the attack by which the other one counts.
    """
    halves = np.stack(
        [
            evidence.halves[name][:images]
            if name in evidence.halves
            else np.repeat(evidence.attacks[name][:images, np.newaxis], 2, axis=1)
            for name in names
        ]
    )
    chosen = np.argmin(halves[..., ::-1], axis=0)
    return np.take_along_axis(halves, chosen[np.newaxis], axis=0)[0].mean(axis=1)
