"""SPSA: the estimate in closed form, the search against Cleverhans' own, bounds on memory."""

import numpy as np
import pytest
import tensorflow as tf
from classifiers import linear, make_judge

from pnil_tf import rng
from pnil_tf.attacks.losses import margin
from pnil_tf.attacks.registry import attack_settings, build_attack
from pnil_tf.attacks.spsa import random_signs, spsa_gradient
from pnil_tf.benchmark.plain import plain_spsa

W = np.random.default_rng(0).normal(size=(4, 4, 1)).astype(np.float32)


def linear_loss(points):
    return tf.reduce_sum(points * W, axis=[2, 3, 4])


@pytest.mark.parametrize("shape", [[3, 5, 7], [1], [1000], [64, 1, 28, 28, 1]])
def test_signs_are_fair_coins_of_the_size_asked_for(shape):
    signs = random_signs(shape, rng.make_seed(1), 0.25).numpy()
    assert list(signs.shape) == shape
    assert set(np.unique(signs)) <= {-0.25, 0.25}
    assert abs(signs.sum() / 0.25) <= 4 * np.sqrt(signs.size)


def test_signs_of_all_pixels_and_draws_are_independent():
    signs = random_signs([4096, 40], rng.make_seed(2)).numpy()
    correlation = signs.T @ signs / 4096 - np.eye(40)
    assert np.abs(correlation).max() < 5 / np.sqrt(4096)


def test_estimate_on_a_linear_loss_has_the_known_mean_and_variance():
    x = tf.zeros((400, 4, 4, 1))
    pairs = 8
    estimate = spsa_gradient(linear_loss, x, rng.make_seed(0), 0.01, pairs, pairs).numpy()
    variance = (np.square(W).sum() - np.square(W)) / pairs
    error = (estimate.mean(axis=0) - W) / np.sqrt(variance / 400)
    assert np.abs(error).max() < 4
    np.testing.assert_allclose(estimate.var(axis=0), variance, rtol=0.35)
    assert estimate.var(axis=0).mean() == pytest.approx(variance.mean(), rel=0.1)


def test_a_pair_measures_its_own_direction_exactly():
    x = tf.zeros((1, 4, 4, 1))
    estimate = spsa_gradient(linear_loss, x, rng.make_seed(0), 0.01, 1, 1).numpy()
    np.testing.assert_allclose(np.abs(estimate), abs((np.sign(estimate) * W).sum()), rtol=1e-4)


def test_images_of_a_batch_have_directions_of_their_own():
    x = tf.zeros((2, 4, 4, 1))
    estimate = spsa_gradient(linear_loss, x, rng.make_seed(0), 0.01, 4, 4).numpy()
    assert np.abs(estimate[0] - estimate[1]).max() > 0.1


@pytest.mark.parametrize("in_flight", [1, 3, 8, 100])
def test_passes_share_the_pairs_out(in_flight):
    sizes = []

    def losses(points):
        sizes.append(points.shape[0] // 2)
        return linear_loss(points)

    x = tf.zeros((200, 4, 4, 1))
    estimate = spsa_gradient(losses, x, rng.make_seed(0), 0.01, 8, in_flight).numpy()
    assert sum(sizes) == 8
    assert max(sizes) <= in_flight
    np.testing.assert_allclose(estimate.mean(axis=0), W, atol=1.5)


def test_every_evaluation_has_noise_of_its_own():
    """The noise of 2 n evaluations averages out as 2 n draws do; shared noise would cancel."""
    delta, pairs = 0.5, 16

    def losses(points):  # no signal at all
        return rng.layer_noise(tf.shape(points)[:2], training=False)

    x = tf.zeros((2000, 1))
    for draws in (1, 4):
        estimate = spsa_gradient(losses, x, rng.make_seed(0), delta, pairs, pairs, draws).numpy()
        expected = np.sqrt(2 / (pairs * draws)) / (2 * delta)
        assert estimate.std() == pytest.approx(expected, rel=0.08)


def run(predict, x, y, seed=0, epsilon=0.1, **options):
    settings = attack_settings("spsa", epsilon, **{"samples": 64, "steps": 20, **options})
    return build_attack(predict, settings, make_judge(predict, 5)).run(x, y, seed)


def test_comes_close_to_the_best_perturbation_of_a_linear_model(images, labels):
    moved = run(linear(W), images, labels, steps=30, samples=256, check_every=0)
    gain = ((moved - images) * W).sum(axis=(1, 2, 3)) / (0.1 * np.abs(W).sum())
    assert gain.min() > 0.97


def test_stays_in_range_and_ball_from_the_rim():
    x = np.concatenate([np.zeros((2, 4, 4, 1)), np.ones((2, 4, 4, 1))]).astype(np.float32)
    moved = run(linear(W), x, np.zeros(4, int), steps=5)
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert np.abs(moved - x).max() <= 0.1 + 1e-6


@pytest.mark.parametrize("limit", [16, 64, 100, 512])
def test_evaluations_in_flight_are_bounded(images, labels, limit):
    most = tf.Variable(0)

    def predict(x):
        most.assign(tf.maximum(most, tf.shape(x)[0]))
        return linear(W)(x)

    run(predict, images, labels, steps=2, max_evaluations_in_flight=limit)
    assert 0 < most.numpy() <= limit


def test_large_images_share_smaller_passes():
    most = tf.Variable(0)

    def predict(x):
        most.assign(tf.maximum(most, tf.shape(x)[0]))
        value = tf.reduce_mean(x, axis=[1, 2, 3])
        return tf.stack([tf.zeros_like(value), value], axis=1)

    images = np.full((1, 512, 512, 4), 0.5, np.float32)
    run(predict, images, np.zeros(1, int), steps=1, samples=64, max_evaluations_in_flight=64)
    assert most.numpy() == 16


def test_attacks_a_black_box_that_has_no_gradient_and_its_own_noise(images, labels):
    generator = np.random.default_rng(0)

    def numpy_model(x):
        value = ((x + 0.05 * generator.normal(size=x.shape)) * W).sum(axis=(1, 2, 3))
        return np.stack([np.zeros(len(x)), np.round(value, 2)], axis=1).astype(np.float32)

    def predict(x):
        logits = tf.numpy_function(numpy_model, [x], tf.float32)
        return tf.ensure_shape(logits, [None, 2])

    moved = run(predict, images, labels, steps=40, samples=128, check_every=0)
    gain = ((moved - images) * W).sum(axis=(1, 2, 3)) / (0.1 * np.abs(W).sum())
    assert gain.mean() > 0.8


def test_a_pause_changes_nothing(images, labels):
    """Adam's moments survive a pause; on a model that never falls nobody leaves."""

    def safe(x):
        return linear(W)(x) + tf.constant([100.0, 0.0])

    whole = run(safe, images[:1], labels[:1], check_every=0)
    paused = run(safe, images[:1], labels[:1], check_every=7)
    np.testing.assert_allclose(whole, paused, atol=1e-5)


def test_agrees_with_cleverhans_on_one_image(trained, blobs):
    """Same settings, ten searches each: equal success and equal final loss within error."""
    x, y = blobs[0][:1], blobs[1][:1]
    epsilon, steps, samples, seeds = 0.22, 20, 64, 10
    predict = lambda x: trained(x, training=False)  # noqa: E731

    theirs = plain_spsa(predict, epsilon, steps, samples, 0.02, 0.1, compiled=True)
    settings = attack_settings(
        "spsa", epsilon, steps=steps, samples=samples, step_size=0.02, delta=0.1, check_every=0
    )
    attack = build_attack(predict, settings, make_judge(predict, 1))
    found = {
        "theirs": np.concatenate([theirs(x, y) for _ in range(seeds)]),
        "ours": np.concatenate([attack.run(x, y, seed) for seed in range(seeds)]),
    }
    labels = np.repeat(y, seeds)
    judge = make_judge(predict, 100)
    success = {k: 1 - judge(v, labels, rng.make_seed(3)).mean() for k, v in found.items()}
    losses = {
        k: np.mean([margin(tf.constant(labels), predict(v)) for _ in range(100)], axis=0)
        for k, v in found.items()
    }
    error = np.sqrt(sum(values.var(ddof=1) / seeds for values in losses.values()))
    assert abs(losses["ours"].mean() - losses["theirs"].mean()) < 4 * error
    assert success["ours"] == pytest.approx(success["theirs"], abs=0.1)
