"""The corrected resampled t-test against an example computed by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pnil_tf.study.statistics import corrected_resampled_t, mean_and_deviation

DIFFERENCES = st.lists(st.floats(-1, 1).map(lambda x: round(x, 3)), min_size=2, max_size=10)


def test_an_example_computed_by_hand():
    # Mean 0.25, variance 0.05 / 3; corrected by 1/4 + 1 its mean has variance 1/48, so that
    # t = 0.25 * sqrt(48) = sqrt(3). With 3 degrees of freedom Student's distribution function
    # there is 1/2 + (1/2 + pi/4) / pi, and p = 2 * (1 - that) = 1/2 - 1/pi.
    found = corrected_resampled_t(np.array([0.1, 0.2, 0.3, 0.4]))
    assert found.p == pytest.approx(0.5 - 1 / math.pi, rel=1e-12)
    assert found.mean == pytest.approx(0.25)
    # 3.182446305 is the tabulated quantile for 97.5 % and 3 degrees of freedom.
    half = 3.182446305 / math.sqrt(48)
    assert (found.low, found.high) == pytest.approx((0.25 - half, 0.25 + half), rel=1e-8)
    assert found.effect.value == pytest.approx(0.25 / math.sqrt(0.05 / 3))
    assert found.runs == 4
    assert not found.significant


def test_without_the_correction_it_is_the_paired_t_test():
    values = np.array([0.3, 0.1, 0.25, 0.6, -0.1])
    found = corrected_resampled_t(values, ratio=0.0)
    assert found.p == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue, rel=1e-9)


@settings(max_examples=50)
@given(DIFFERENCES, st.floats(0.0, 2.0))
def test_the_interval_of_the_effect_size_inverts_the_noncentral_t(values, ratio):
    found = corrected_resampled_t(np.array(values), ratio)
    if found.effect is None or abs(found.effect.value) > 50:
        return
    scale = math.sqrt(1 / len(values) + ratio)
    t = found.effect.value / scale
    for end, quantile in ((found.effect.low, 0.975), (found.effect.high, 0.025)):
        assert stats.nct.cdf(t, len(values) - 1, end / scale) == pytest.approx(quantile, abs=5e-4)


def test_an_effect_size_of_differences_that_hardly_scatter():
    found = corrected_resampled_t(np.array([0.5, 0.50001])).effect
    assert 0 < found.low < found.value < found.high


def test_the_papers_own_fashion_rows_would_be_significant():
    # Differences of 68 points that scatter by 2 over ten runs.
    generator = np.random.default_rng(0)
    assert corrected_resampled_t(0.68 + 0.02 * generator.standard_normal(10)).significant


@settings(max_examples=40)
@given(values=DIFFERENCES)
def test_the_sign_does_not_matter_and_the_correction_makes_it_careful(values):
    values = np.array(values)
    found, mirrored = corrected_resampled_t(values), corrected_resampled_t(-values)
    if found.p is None:
        assert mirrored.p is None
        return
    assert found.p == pytest.approx(mirrored.p, abs=1e-12)
    assert found.low == pytest.approx(-mirrored.high)
    assert found.p >= corrected_resampled_t(values, ratio=0.1).p - 1e-12
    assert found.low <= found.mean <= found.high


@pytest.mark.parametrize("value", [0.0, 0.1, -0.25])
def test_runs_that_do_not_scatter(value):
    found = corrected_resampled_t(np.full(3, value))
    assert (found.p, found.effect, found.significant) == (None, None, False)
    assert (found.low, found.high) == (-math.inf, math.inf)


def test_one_run_says_nothing_about_scatter():
    found = corrected_resampled_t(np.array([0.4]))
    assert found.p is None
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert not found.significant


def test_the_deviation_is_that_of_a_sample():
    assert mean_and_deviation(np.array([0.2, 0.4])) == pytest.approx((0.3, math.sqrt(0.02)))
    assert mean_and_deviation(np.array([0.2])) == (0.2, None)
