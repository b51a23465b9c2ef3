"""Which radii of the curve over epsilon tell something of the figure at epsilon.

Of a radius hardly larger than epsilon an attack leaves hardly less, whatever leads it astray; of a
tiny one it leaves nearly all, whatever the model. The usual curve has 1/4, 1/2, 3/2 and 2 epsilon.
"""

from __future__ import annotations

import numpy as np

from pnil_tf.evaluation.obfuscation.evidence import Evidence

CLEARLY, FAR = 1.5, 4
"""A radius counts that is so many times as large or as small as epsilon."""

_HALF = (1 / 3, 1 / 2)
_ROUNDING = 1e-6


def tells(evidence: Evidence) -> bool:
    """Whether the curve has a radius that is clearly another one, and not far away."""
    return any(
        CLEARLY * (1 - _ROUNDING) <= max(ratio, 1 / ratio) <= FAR * (1 + _ROUNDING)
        for ratio in (radius / evidence.epsilon for radius, _ in evidence.epsilon_curve)
    )


def at_half(evidence: Evidence) -> np.ndarray | None:
    """What is left at half of epsilon, or somewhat less: the nearest of these radii, if any."""
    low, high = (share * evidence.epsilon for share in _HALF)
    nearer = [
        share
        for radius, share in evidence.epsilon_curve
        if low * (1 - _ROUNDING) <= radius <= high * (1 + _ROUNDING)
    ]
    return nearer[-1] if nearer else None
