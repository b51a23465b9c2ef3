import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from pnil_tf.evaluation.statistics import (
    figure,
    majority,
    noise_std,
    paired_difference,
    weakest,
    wilson,
)


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (0, 50), (50, 50), (37, 100), (1, 1000)])
def test_wilson_is_scipys(right, n):
    shares = np.array([1.0] * right + [0.0] * (n - right))
    found = wilson(shares)
    expected = binomtest(right, n).proportion_ci(method="wilson")
    assert found.value == pytest.approx(right / n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_wilson_holds_its_value(shares):
    found = wilson(np.array(shares))
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_paired_difference_is_of_the_images_both_have():
    found = paired_difference(np.array([1.0, 1.0, 0.0, 0.0]), np.array([0.0, 1.0]))
    assert found.value == 0.5


def test_no_difference_is_no_certainty():
    same = np.ones(30)
    found = paired_difference(same, same)
    assert found.value == 0
    assert found.low < -0.02
    assert found.high > 0.02


def test_paired_interval_covers():
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(1000):
        before = random.random(100) < 0.8
        after = before & (random.random(100) < 0.9)
        found = paired_difference(before, after)
        inside += found.low <= 0.08 <= found.high
    assert inside >= 930


def test_noise_std_is_the_scatter_over_judgements():
    random = np.random.default_rng(0)
    p, draws = random.random(40), 20
    means, estimates = [], []
    for _ in range(2000):
        share = random.binomial(draws, p) / draws
        means.append(share.mean())
        estimates.append(noise_std(share, draws))
    assert np.mean(estimates) == pytest.approx(np.std(means), rel=0.05)
    assert noise_std(np.array([0.0, 1.0]), 1) == 0


def test_figure_of_hand_counted_votes():
    votes = np.array([[0, 0, 1], [1, 1, 1], [2, -1, -1], [-1, -1, -1]])
    found = figure(votes, np.array([0, 1, 2, 0]))
    assert found["value"] == pytest.approx((2 / 3 + 1 + 1 / 3 + 0) / 4)
    assert found["majority_vote"]["value"] == 0.75
    assert found["worst_draw"]["value"] == 0.25
    assert (found["images"], found["draws"]) == (4, 3)
    np.testing.assert_array_equal(majority(votes), [0, 1, 2, -1])


def test_the_weakest_is_found_on_the_images_that_all_attacked():
    few = np.array([0.0, 0.0, 1.0])  # the first images are easy prey
    many = np.array([0.0, 0.0, 0.5, 1.0, 1.0, 1.0])
    assert weakest({"many": many, "few": few}) == "many"
    assert weakest({"few": many[:3], "many": many}) == "many"
