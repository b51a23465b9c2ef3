"""Whether two ways to train differ, judged from runs that are not independent."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from scipy import optimize, stats

ALPHA = 0.003
"""The paper's level of significance."""

FOLDS_RATIO = 1.0
"""Images left out over images trained on, in two-fold cross-validation."""

_NODES = 4000
_NO_SCATTER = 1e-9


@dataclasses.dataclass(frozen=True)
class EffectSize:
    """A mean difference in units of the differences' standard deviation (Cohen's d of pairs).

    Args:
        value: The effect size.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The difference of two ways to train, over runs that both have.

    Args:
        mean: Mean of the differences.
        low: Lower end of its 95 % interval; -inf where the runs do not scatter. So for `high`: inf.
        high: Upper end.
        p: Two-sided p-value; `None` with a single run or none that differ.
        effect: The effect size; `None` where the differences do not scatter.
        runs: Number of differences.
    """

    mean: float
    low: float
    high: float
    p: float | None
    effect: EffectSize | None
    runs: int

    @property
    def significant(self) -> bool:
        """Whether the p-value is below the paper's level."""
        return self.p is not None and self.p < ALPHA


def corrected_resampled_t(differences: np.ndarray, ratio: float = FOLDS_RATIO) -> Comparison:
    """Compares by the corrected resampled t-test of Nadeau and Bengio (2003, section 5).

    Runs that share training images scatter less than independent ones would. Their test
    therefore takes `(1/J + n2/n1) * s**2` for the variance of the mean of J differences, where
    n1 images of all are trained on and n2 are left out.

    Args:
        differences: `(runs,)`, at least one, each the difference of a pair of models.
        ratio: n2/n1, > 0. The paper tests on images of their own, but what makes its runs
            depend on one another are the halves they train on: 1.
    """
    differences = np.asarray(differences, np.float64)
    runs, mean = len(differences), float(np.mean(differences))
    if runs < 2:
        return Comparison(mean, -math.inf, math.inf, None, None, runs)
    deviation = float(np.std(differences, ddof=1))
    error = math.sqrt(1 / runs + ratio) * deviation
    if deviation < _NO_SCATTER:  # equal by chance or rounding: that says nothing of other runs
        return Comparison(mean, -math.inf, math.inf, None, None, runs)
    p = float(2 * stats.t.sf(abs(mean) / error, runs - 1))
    half = float(stats.t.ppf(0.975, runs - 1)) * error
    effect = _effect_size(mean / deviation, error / deviation, runs - 1)
    return Comparison(mean, mean - half, mean + half, p, effect, runs)


def _effect_size(value: float, scale: float, freedom: int) -> EffectSize:
    """Inverts the noncentral t distribution (Steiger and Fouladi 1997).

    `value / scale` is the statistic t; an effect size d makes it noncentral by `d / scale`.
    """
    t = value / scale
    # Averaged over equally likely values of the denominator of t, which stands where SciPy's
    # noncentral t gives NaN: differences that hardly scatter make t huge.
    shares = (np.arange(_NODES) + 0.5) / _NODES
    denominators = np.sqrt(stats.chi2.ppf(shares, freedom) / freedom)
    reach = abs(t) * float(denominators[-1]) + 10.0

    def noncentrality(quantile: float) -> float:
        def excess(candidate: float) -> float:
            return float(np.mean(stats.norm.cdf(t * denominators - candidate))) - quantile

        return float(optimize.brentq(excess, -reach, reach))

    return EffectSize(value, noncentrality(0.975) * scale, noncentrality(0.025) * scale)


def mean_and_deviation(values: np.ndarray) -> tuple[float, float | None]:
    """Returns the mean and the sample standard deviation over runs, `None` for a single run."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return float(np.mean(values)), deviation
