"""The bounds against exact values: linear classifiers, and shifts of probability in one feature."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats

from pnil_tf.certificate.bounds import (
    any_radius,
    any_single_draw,
    divergence,
    fixed_radius,
    fixed_single_draw,
    lower_confidence,
    sensitivity,
    upper_confidence,
)

NORMS = ("linf", "l2")


def linear(generator, sigma):
    """A linear classifier of two classes in the direction that its noise makes weakest."""
    w = generator.normal(size=sigma.shape)
    return w, generator.uniform(0.05, 3.0) * np.sqrt((w**2 * sigma**2).sum())


def exact_radius(w, b, norm):
    """The distance of x from the boundary: the smoothed classifier has the linear one's."""
    return b / (np.abs(w).sum() if norm == "linf" else np.sqrt((w**2).sum()))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("isotropic", [True, False])
def test_a_linear_classifier_is_proved_no_further_than_its_exact_radius(norm, isotropic):
    generator = np.random.default_rng(1)
    for _ in range(100):
        sigma = np.full(20, 0.3) if isotropic else generator.uniform(0.05, 1.0, 20)
        w, b = linear(generator, sigma)
        share = special.ndtr(b / np.sqrt((w**2 * sigma**2).sum()))
        assert fixed_radius(share, sensitivity(sigma, norm)) <= exact_radius(w, b, norm) + 1e-12


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("isotropic", [True, False])
def test_the_weakest_linear_classifier_is_proved_exactly(norm, isotropic):
    generator = np.random.default_rng(2)
    sigma = np.full(20, 0.3) if isotropic else generator.uniform(0.05, 1.0, 20)
    # In l_inf w ~ 1 / sigma^2 is the worst; in l_2 all weight on the quietest feature.
    w = 1 / sigma**2 if norm == "linf" else (sigma == sigma.min()).astype(float)
    if norm == "l2" and isotropic:
        w = generator.normal(size=20)
    scale = np.sqrt((w**2 * sigma**2).sum())
    b = 1.7 * scale
    share = special.ndtr(b / scale)
    found = fixed_radius(share, sensitivity(sigma, norm))
    assert found == pytest.approx(exact_radius(w, b, norm), rel=1e-9)


def test_in_l2_noise_that_is_louder_somewhere_proves_no_more_than_its_least_everywhere():
    """Hence the recipe of CIFAR-10 has the same noise everywhere; in l_inf this is not so."""
    generator = np.random.default_rng(3)
    ahead = {"linf": 0, "l2": 0}
    for _ in range(100):
        sigma = generator.uniform(0.2, 1.0, 20)
        w = generator.exponential(size=20) / sigma**2
        b = generator.uniform(0.05, 3.0)
        for norm in NORMS:
            radii = [
                fixed_radius(special.ndtr(b / np.sqrt((w**2 * s**2).sum())), sensitivity(s, norm))
                for s in (sigma, np.full(20, sigma.min()))
            ]
            ahead[norm] += radii[0] > radii[1] + 1e-12
    assert ahead["l2"] == 0
    assert ahead["linf"] > 50


@pytest.mark.parametrize("norm", NORMS)
def test_the_least_share_is_that_of_a_linear_classifier_at_the_worst_step(norm):
    generator = np.random.default_rng(3)
    for _ in range(50):
        sigma = generator.uniform(0.05, 1.0, 20)
        w, b = linear(generator, sigma)
        scale, epsilon = np.sqrt((w**2 * sigma**2).sum()), generator.uniform(0.0, 0.2)
        reach = epsilon * (np.abs(w).sum() if norm == "linf" else np.sqrt((w**2).sum()))
        bound = fixed_single_draw(special.ndtr(b / scale), epsilon, sensitivity(sigma, norm))
        assert bound <= special.ndtr((b - reach) / scale) + 1e-12


def test_the_bound_of_1000_linear_classifiers_fails_no_more_often_than_alpha_says():
    generator = np.random.default_rng(4)
    alpha, draws, failed = 0.05, 2000, 0
    for _ in range(1000):
        sigma = generator.uniform(0.05, 1.0, 20)
        w, b = 1 / sigma**2, generator.uniform(0.1, 2.0)
        b *= np.sqrt((w**2 * sigma**2).sum())
        share = special.ndtr(b / np.sqrt((w**2 * sigma**2).sum()))
        hits = generator.binomial(draws, share)
        found = fixed_radius(lower_confidence(hits, draws, alpha), sensitivity(sigma, "linf"))
        failed += found > exact_radius(w, b, "linf")
    assert failed <= stats.binom.ppf(1 - 1e-6, 1000, alpha)
    assert failed >= 10  # a bound that never fails would be far too low


@pytest.mark.parametrize("draws", [10, 1000])
@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_the_confidence_bound_is_clopper_and_pearsons(draws, alpha):
    hits = np.array([0, 1, draws // 2, draws - 1, draws])
    low = lower_confidence(hits, draws, alpha)
    assert low[0] == 0.0
    np.testing.assert_allclose(low[-1], alpha ** (1 / draws))
    # At the bound, so many hits or more have the probability alpha.
    np.testing.assert_allclose(stats.binom.sf(hits[1:] - 1, draws, low[1:]), alpha, rtol=1e-6)
    high = upper_confidence(hits, draws, alpha)
    assert high[-1] == 1.0
    np.testing.assert_allclose(stats.binom.cdf(hits[:-1], draws, high[:-1]), alpha, rtol=1e-6)


def test_no_majority_proves_nothing():
    assert not fixed_radius(np.array([0.0, 0.3, 0.5]), 1.0).any()
    for share in (0.0, 0.3, 0.5):
        assert any_radius(share, np.zeros(3), np.ones(3), "linf") == 0.0


# A share that float64 rounds to 1 would be proved to stay 1; no confidence bound comes so near.
NEAREST = 1.0 - 2.0**-40

numbers = st.floats(-3.0, 3.0)
features = st.lists(
    st.tuples(numbers, st.floats(-4.0, 1.0), st.floats(0.0, 1.0)), min_size=1, max_size=6
)


def kullback_leibler(x, moved, W, B):
    s, t = np.exp(x * W + B), np.exp(moved * W + B)
    return 0.5 * (t / s - 1 - np.log(t / s) + (moved - x) ** 2 / s).sum()


@settings(max_examples=200, deadline=None)
@given(features, st.floats(0.001, 0.3), st.integers(0, 2**32 - 1), st.sampled_from(NORMS))
def test_no_step_within_the_ball_diverges_further_than_the_bound(parts, epsilon, seed, norm):
    W, B, x = np.array(parts).T
    step = np.random.default_rng(seed).normal(size=len(x))
    length = np.abs(step).max() if norm == "linf" else np.sqrt((step**2).sum())
    moved = x + epsilon * step / max(length, 1e-9)
    bound = divergence(epsilon, np.abs(W), np.exp((x * W + B) / 2), norm)
    assert kullback_leibler(x, moved, W, B) <= bound * (1 + 1e-9) + 1e-12


@settings(max_examples=100, deadline=None)
@given(features, st.floats(0.001, 0.3))
def test_the_worst_corner_reaches_the_bound(parts, epsilon):
    W, B, x = np.array(parts).T
    sigma = np.exp((x * W + B) / 2)
    corner = x + epsilon * np.where(W < 0, -1.0, 1.0)
    expected = divergence(epsilon, np.abs(W), sigma, "linf")
    assert kullback_leibler(x, corner, W, B) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@settings(max_examples=200, deadline=None)
@example(-3.0, -3.0, 0.5, -0.25, 0.0, False)  # the share of such noise rounds to 1
@given(numbers, st.floats(-4.0, 1.0), st.floats(0, 1), st.floats(-0.3, 0.3), numbers, st.booleans())
def test_the_bound_never_passes_the_exact_shift_of_a_probability(W, B, x, d, cut, outside):
    """One feature; the classifier says A in, or outside, an interval around the image."""
    half = np.exp(cut)

    def share(at):
        inside = stats.norm(at, np.exp((at * W + B) / 2))
        p = inside.cdf(x + half) - inside.cdf(x - half)
        return 1 - p if outside else p

    sigma = np.array([np.exp((x * W + B) / 2)])
    low = min(share(x), NEAREST)
    bound = any_single_draw(low, divergence(abs(d), np.array([abs(W)]), sigma, "linf"))
    assert bound <= share(x + d) + 1e-9


@settings(max_examples=200, deadline=None)
@given(
    features,
    st.floats(0.001, 0.3),
    st.integers(0, 2**32 - 1),
    st.sampled_from(NORMS),
    st.sampled_from(["in a box", "outside of a box", "half-space"]),
)
def test_of_several_features_the_bound_never_passes_the_exact_shift_either(
    parts, epsilon, seed, norm, region
):
    """Regions whose share is known: boxes around the image, and what a linear classifier says."""
    W, B, x = np.array(parts).T
    generator = np.random.default_rng(seed)
    sigma = np.exp((x * W + B) / 2)
    half = np.exp(generator.uniform(-3, 3, len(x)))
    weakest = 1 / sigma**2 if norm == "linf" else (sigma == sigma.min()).astype(float)
    w = weakest if generator.random() < 0.5 else generator.normal(size=len(x))
    b = generator.normal() * np.linalg.norm(w * sigma) - w @ x
    steps = [generator.normal(size=len(x)), np.where(W < 0, -1.0, 1.0), -w, -np.sign(w)]
    step = steps[generator.integers(len(steps))]
    step *= epsilon / (np.abs(step).max() if norm == "linf" else np.linalg.norm(step))

    def share(at):
        sigma = np.exp((at * W + B) / 2)
        if region == "half-space":
            return special.ndtr((w @ at + b) / np.linalg.norm(w * sigma))
        inside = special.ndtr((x + half - at) / sigma) - special.ndtr((x - half - at) / sigma)
        return inside.prod() if region == "in a box" else 1 - inside.prod()

    low = min(share(x), NEAREST)
    bound = any_single_draw(low, divergence(epsilon, np.abs(W), sigma, norm))
    assert bound <= share(x + step) + 1e-9


@pytest.mark.parametrize("share", [0.6, 0.9, 0.999])
def test_the_least_share_has_exactly_the_divergence(share):
    for budget in (1e-6, 1e-3, 0.05):
        found = float(any_single_draw(share, budget))

        def excess(q, share=share, budget=budget):
            return q * np.log(q / share) + (1 - q) * np.log((1 - q) / (1 - share)) - budget

        assert found == pytest.approx(optimize.brentq(excess, 1e-12, share), abs=1e-9)
    assert any_single_draw(share, 1e9) == 0.0
    assert any_single_draw(share, 0.0) == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_at_the_radius_the_single_draw_bound_is_one_half(norm):
    generator = np.random.default_rng(5)
    slope, sigma = generator.uniform(0, 2, 30), generator.uniform(0.1, 1, 30)
    radius = any_radius(0.99, slope, sigma, norm)
    left = any_single_draw(0.99, divergence(radius, slope, sigma, norm))
    assert left == pytest.approx(0.5, abs=1e-4)
    fixed = fixed_radius(0.99, sensitivity(sigma, norm))
    assert fixed_single_draw(0.99, fixed, sensitivity(sigma, norm)) == pytest.approx(0.5)


@pytest.mark.parametrize("norm", NORMS)
def test_where_w_is_0_the_bound_for_fixed_noise_is_the_better_one(norm):
    sigma = np.random.default_rng(6).uniform(0.1, 1, 30)
    for share in (0.6, 0.9, 0.999):
        general = any_radius(share, np.zeros(30), sigma, norm)
        assert 0 < general < fixed_radius(share, sensitivity(sigma, norm))
