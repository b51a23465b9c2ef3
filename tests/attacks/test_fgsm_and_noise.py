"""FGSM and uniform noise."""

import numpy as np
import pytest
from classifiers import NoisyLinear, linear, make_judge

from pnil_tf.attacks.registry import attack_settings, build_attack

W = np.random.default_rng(0).normal(size=(4, 4, 1)).astype(np.float32)
EPS = 0.1


def run(name, predict, x, y, seed=0, **options):
    settings = attack_settings(name, EPS, **options)
    return build_attack(predict, settings, make_judge(predict, 1)).run(x, y, seed)


def test_fgsm_on_a_linear_model_is_the_best_perturbation(images, labels):
    moved = run("fgsm", linear(W), images, labels, draws=1)
    np.testing.assert_allclose(moved, images + EPS * np.sign(W), atol=1e-6)


def test_fgsm_towards_a_target_goes_the_other_way(images, labels):
    moved = run("fgsm", linear(W), images, labels, draws=1, targeted=True, loss="margin")
    np.testing.assert_allclose(moved, images - EPS * np.sign(W), atol=1e-6)


def test_fgsm_averages_over_draws(images, labels):
    """A pair of opposite draws of a linear loss has the exact gradient."""
    model = NoisyLinear()
    model.layer.kernel.assign(3.0 * model.layer.kernel)
    exact = images + EPS * np.sign(model.w)
    one, two = (run("fgsm", model, images, labels, draws=n, loss="margin") for n in (1, 2))
    np.testing.assert_allclose(two, exact, atol=1e-6)
    assert np.mean(np.abs(one - exact) > 1e-3) > 0.03


def test_noise_is_uniform_in_the_ball():
    x = np.full((500, 4, 4, 1), 0.5, np.float32)
    offsets = run("noise", linear(W), x, np.zeros(500, int)) - x
    assert np.abs(offsets).max() <= EPS + 1e-6
    assert offsets.mean() == pytest.approx(0, abs=0.003)
    assert offsets.std() == pytest.approx(EPS / np.sqrt(3), rel=0.03)


def test_noise_in_l2_stays_in_the_ball(images, labels):
    offsets = (run("noise", linear(W), images, labels, norm="l2") - images).reshape(12, -1)
    radius = np.linalg.norm(offsets, axis=1)
    assert radius.max() <= EPS + 1e-6
    assert radius.min() > 0.5 * EPS  # nearly all of a ball in 16 dimensions is close to its rim


def test_noise_is_clipped_to_the_range():
    x = np.zeros((5, 4, 4, 1), np.float32)
    assert run("noise", linear(W), x, np.zeros(5, int)).min() == 0
