"""What shares of draws prove, in closed form: float64, no TensorFlow.

Let `p` be the share of draws of the noise in which a classifier answers with one class. A
*radius* is that of a ball around the image, in which the majority over draws stays with this
class; a *single-draw bound* is the least that `p` can become within a ball.

With noise that no image changes (`W = 0`), both follow from Cohen, Rosenfeld and Kolter 2019
(theorem 1), with every feature divided by its own sigma. With any other noise the variance itself
tells where the image is, so that theorem does not hold; there the Kullback-Leibler divergence
bounds how far `p` can move. docs/certificate.md has the proofs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special, stats

Array = np.ndarray
_BISECTIONS = 100


def lower_confidence(hits: Any, draws: int, alpha: float) -> Array:
    """The one-sided lower bound of a share (Clopper and Pearson 1934), float64.

    Args:
        hits: Integers from 0 to `draws`, how many independent draws hit.
        draws: How many there were.
        alpha: The bound is above the share with no more than this probability.
    """
    hits = np.asarray(hits, np.float64)
    found = stats.beta.ppf(alpha, np.maximum(hits, 1), draws - hits + 1)
    return np.where(hits > 0, found, 0.0)


def upper_confidence(hits: Any, draws: int, alpha: float) -> Array:
    """The one-sided upper bound of a share; see `lower_confidence`."""
    return 1.0 - lower_confidence(draws - np.asarray(hits), draws, alpha)


def sensitivity(sigma: Array, norm: str) -> float:
    """How many standard deviations of the noise a step of length 1 can be worth.

    Args:
        sigma: Standard deviation of the noise of every feature of one image, > 0.
        norm: Of the step, `"linf"` or `"l2"`.

    Returns:
        `sqrt(sum 1 / sigma^2)` in l_inf, `1 / min sigma` in l_2.
    """
    each = 1.0 / np.asarray(sigma, np.float64)
    return float(np.sqrt(np.square(each).sum()) if norm == "linf" else each.max())


def fixed_radius(share: Any, sensitivity: Any) -> Array:
    """The radius that fixed noise proves, 0 where the share is no majority.

    Args:
        share: Lower bounds of the shares, in [0, 1].
        sensitivity: What `sensitivity` says of the noise, > 0.
    """
    quantile = special.ndtri(np.asarray(share, np.float64))
    return np.maximum(quantile, 0.0) / np.asarray(sensitivity, np.float64)


def fixed_single_draw(share: Any, epsilon: float, sensitivity: Any) -> Array:
    """The least share within a radius that fixed noise leaves; see `fixed_radius`."""
    quantile = special.ndtri(np.asarray(share, np.float64))
    return special.ndtr(quantile - epsilon * np.asarray(sensitivity, np.float64))


def divergence(epsilon: float, slope: Array, sigma: Array, norm: str) -> float:
    """The largest Kullback-Leibler divergence of the noisy image within a ball from that at x.

    For one feature moved by `d` it is `(e^t - 1 - t + d^2 / sigma^2) / 2`, `t = W d`. That grows
    with `|d|`, and more so where `t > 0`; it is a convex function of `d^2`, so that in l_2 the
    worst step spends everything on one feature.

    Args:
        epsilon: The radius, >= 0.
        slope: By how much the logarithm of a feature's variance changes at most when the feature
            changes by 1, >= 0.
        sigma: Standard deviation of the noise of every feature at x, > 0.
        norm: `"linf"` or `"l2"`.
    """
    exponent = epsilon * np.asarray(slope, np.float64)
    with np.errstate(over="ignore"):
        each = np.expm1(exponent) - exponent + np.square(epsilon / np.asarray(sigma, np.float64))
    # expm1 rounds: a negative remainder of no size would be no divergence.
    each = np.broadcast_to(np.maximum(each, 0.0), np.shape(sigma))
    return 0.5 * float(each.sum() if norm == "linf" else each.max())


def any_single_draw(share: Any, divergence: Any) -> Array:
    """The least share that a Kullback-Leibler divergence leaves: min q with kl(q || p) <= K.

    Args:
        share: Lower bounds of the shares p, in [0, 1].
        divergence: K, >= 0.
    """
    share, divergence = np.broadcast_arrays(
        np.asarray(share, np.float64), np.asarray(divergence, np.float64)
    )
    low, high = np.zeros(share.shape), np.array(share)
    for _ in range(_BISECTIONS):  # kl falls in q below p; `low` stays where it is above K
        middle = (low + high) / 2
        within = _binary_divergence(middle, share) <= divergence
        high = np.where(within, middle, high)
        low = np.where(within, low, middle)
    return np.where(_binary_divergence(np.zeros(share.shape), share) <= divergence, 0.0, low)


def any_radius(share: float, slope: Array, sigma: Array, norm: str) -> float:
    """The radius that noise of any kind proves, 0 where the share is no majority.

    Args:
        share: Lower bound of the share, in [0, 1].
        slope: As for `divergence`.
        sigma: As for `divergence`.
        norm: `"linf"` or `"l2"`.
    """
    if not 0.5 < share < 1.0:
        return 0.0
    most = -0.5 * np.log(4.0 * share * (1.0 - share))
    low, high = 0.0, float(np.sqrt(2.0 * most) / sensitivity(sigma, norm))  # as if W = 0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if divergence(middle, slope, sigma, norm) < most:
            low = middle
        else:
            high = middle
    return low


def _binary_divergence(q: Array, p: Array) -> Array:
    return special.rel_entr(q, p) + special.rel_entr(1.0 - q, 1.0 - p)
