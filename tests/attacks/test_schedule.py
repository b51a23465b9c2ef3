"""Draws over the steps, and the mean over steps."""

import numpy as np
import pytest
import tensorflow as tf
from classifiers import NoisyLinear, second_logit

from pnil_tf import rng
from pnil_tf.attacks.eot import EOT, eot_gradient
from pnil_tf.attacks.schedule import draw_phases, running_mean, scheduled_gradient

X = tf.fill((2, 4, 4, 1), 0.5)
Y = tf.zeros(2, tf.int32)


def test_each_step_has_the_gradient_of_its_phase():
    model, seed = NoisyLinear(), rng.make_seed(0)
    phases = ((0, EOT(1)), (2, EOT(3)), (5, EOT(7)))

    @tf.function(autograph=False)
    def scheduled(step):
        return scheduled_gradient(model, second_logit, X, Y, seed, step, phases)

    for step, eot in ((0, EOT(1)), (1, EOT(1)), (2, EOT(3)), (4, EOT(3)), (5, EOT(7))):
        expected = eot_gradient(model, second_logit, X, Y, rng.fold(seed, step), eot)[1]
        np.testing.assert_allclose(scheduled(tf.constant(step)), expected, rtol=1e-5, atol=1e-6)


def test_gradients_that_are_not_finite_count_as_none():
    def broken(x):
        return tf.stack([tf.zeros(len(x)), tf.reduce_sum(x, [1, 2, 3]) * np.inf], axis=1)

    phases = ((0, EOT()),)
    gradient = scheduled_gradient(broken, second_logit, X, Y, rng.make_seed(0), 0, phases)
    assert not np.any(gradient)


def test_phases_of_equal_draws_are_one():
    assert draw_phases(EOT(1), ((0.6, 0.04), (0.3, 0.2), (0.1, 1.0)), 50) == ((0, EOT(1)),)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.75])
def test_running_mean_shrinks_the_noise_as_promised(momentum):
    generator = np.random.default_rng(0)
    mean = np.zeros(2000)
    for _ in range(60):
        mean = running_mean(mean, 3.0 + generator.normal(size=2000), momentum)
    assert mean.mean() == pytest.approx(3.0, abs=0.1)
    assert mean.var() == pytest.approx((1 - momentum) / (1 + momentum), rel=0.15)
