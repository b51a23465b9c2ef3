"""Square: its schedule, its points, and linear models whose best perturbation is known."""

import numpy as np
import pytest
import tensorflow as tf
from classifiers import NoisyLinear, linear, make_judge

from pnil_tf import rng
from pnil_tf.attacks.registry import attack_settings, build_attack
from pnil_tf.attacks.square import sides
from pnil_tf.errors import UserError

EPS = 0.1
W = np.random.default_rng(0).normal(size=(4, 4, 1)).astype(np.float32)


def run(predict, x, y, seed=0, epsilon=EPS, **options):
    settings = attack_settings(
        "square", epsilon, **{"draws": 1, "check_every": 0, "steps": 600, **options}
    )
    return build_attack(predict, settings, make_judge(predict, 1)).run(x, y, seed)


def test_the_schedule_is_the_published_one():
    plan = sides(32, 32, attack_settings("square", EPS))
    assert [first for first, _ in plan] == [0, 10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000]
    assert [side for _, side in plan] == [29, 20, 14, 10, 7, 5, 4, 3, 2, 1]


def test_fewer_queries_run_through_the_same_sizes():
    plan = sides(32, 32, attack_settings("square", EPS, steps=1000))
    assert [first for first, _ in plan[:5]] == [0, 2, 10, 40, 100]


def test_patches_in_l2_have_a_middle():
    plan = sides(28, 28, attack_settings("square", EPS, norm="l2"))
    assert all(side % 2 == 1 and 3 <= side <= 28 for _, side in plan)


def test_reaches_the_best_corner_of_a_linear_model(images, labels):
    moved = run(linear(W), images, labels)
    np.testing.assert_allclose(moved, images + EPS * np.sign(W), atol=1e-6)


def test_every_point_in_linf_is_a_corner(images, labels):
    moved = run(linear(W), images, labels, steps=3)
    np.testing.assert_allclose(np.abs(moved - images), EPS, atol=1e-6)


def test_comes_close_to_the_best_perturbation_in_l2():
    w = np.ones((8, 8, 2), np.float32)
    w[:4] = -1
    x = np.full((6, 8, 8, 2), 0.5, np.float32)
    moved = run(linear(w), x, np.zeros(6, int), norm="l2", steps=3000)
    offset = moved - x
    np.testing.assert_allclose(np.linalg.norm(offset.reshape(6, -1), axis=1), EPS, rtol=1e-4)
    gain = (offset * w).sum(axis=(1, 2, 3)) / (EPS * np.linalg.norm(w))
    assert gain.min() > 0.6  # the authors' own code reaches 0.44 to 0.61 here


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("shape", [(4, 4, 1), (9, 5, 3), (1, 7, 1)])
def test_images_of_any_size_stay_in_range_and_ball(norm, shape):
    w = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    x = np.stack([np.zeros(shape), np.full(shape, 0.5), np.ones(shape)]).astype(np.float32)
    moved = run(linear(w), x, np.zeros(3, int), norm=norm, steps=60)
    assert moved.min() >= 0
    assert moved.max() <= 1
    flat = (moved - x).reshape(3, -1)
    distance = np.abs(flat).max(1) if norm == "linf" else np.linalg.norm(flat, axis=1)
    assert distance.max() <= EPS * (1 + 1e-5) + 1e-6


def test_every_pixel_can_be_reached():
    """With one class that a single pixel decides, at any place of the image."""
    for place in ((0, 0), (5, 5), (0, 5)):
        w = np.zeros((6, 6, 1), np.float32)
        w[place] = 1
        x = np.full((4, 6, 6, 1), 0.5, np.float32)
        moved = run(linear(w), x, np.zeros(4, int), steps=1500, seed=1)
        np.testing.assert_allclose(moved[:, place[0], place[1], 0], 0.6, atol=1e-6)


def test_needs_no_gradient(images, labels):
    def steps_only(x):
        return tf.floor(50 * linear(W)(x))

    moved = run(steps_only, images, labels)
    gain = ((moved - images) * W).sum(axis=(1, 2, 3)) / (EPS * np.abs(W).sum())
    assert gain.min() > 0.95


def test_luck_does_not_stay(images, labels):
    """Every draw adds a large number of its own to the margin, which patches cannot change.

    Kept for the whole search, the luckiest draw would stop it: nothing would look better.
    """

    def predict(x):
        luck = rng.layer_noise(tf.shape(x)[:1], training=False)
        return linear(W)(x) + tf.stack([tf.zeros_like(luck), 5 * luck], axis=1)

    gains = {}
    for renew_every in (1, 20):
        moved = run(predict, images, labels, draws=1, steps=400, renew_every=renew_every)
        gains[renew_every] = ((moved - images) * W).sum(axis=(1, 2, 3)) / (EPS * np.abs(W).sum())
    assert gains[20].min() > 0.9  # the same draws for candidate and kept point
    assert gains[20].mean() > gains[1].mean() + 0.2


def test_draws_are_renewed_where_there_is_noise_however_few_they_are():
    assert attack_settings("square", EPS, draws=1, stochastic=True).renew_every == 50
    assert attack_settings("square", EPS, draws=1, stochastic=False).renew_every == 5000


def test_noisy_models_are_searched_over_several_draws(images, labels):
    model = NoisyLinear()
    moved = run(model, images, labels, draws=10, steps=400)
    gain = ((moved - images) * model.w).sum(axis=(1, 2, 3)) / (EPS * np.abs(model.w).sum())
    assert gain.mean() > 0.9


@pytest.mark.parametrize("targeted", [False, True])
def test_draws_without_an_answer_do_not_stop_the_search(images, labels, targeted):
    """Three in ten, whatever the image: among the draws of each query there are some."""

    def predict(x):
        luck = rng.layer_noise(tf.shape(x)[:1], training=False)
        return linear(W)(x) + tf.where(luck > 0.5, np.nan, 0.0)[:, tf.newaxis]

    y = labels + int(targeted)
    moved = run(predict, images, y, draws=10, steps=400, targeted=targeted)
    gain = ((moved - images) * W).sum(axis=(1, 2, 3)) / (EPS * np.abs(W).sum())
    assert gain.min() > 0.9


@pytest.mark.parametrize("draws", [1, 4])
def test_a_pause_changes_nothing(images, labels, draws):
    model = NoisyLinear()

    def safe(x):
        return model(x) + tf.constant([100.0, 0.0])

    whole = run(safe, images, labels, draws=draws, steps=60)
    paused = run(safe, images, labels, draws=draws, steps=60, check_every=13)
    np.testing.assert_array_equal(whole, paused)


def test_images_that_get_no_nearer_are_given_up():
    """A margin just out of reach is followed to the end, one far out of it is not."""
    x = np.full((2, 4, 4, 1), 0.5, np.float32)
    reach = 0.1 * np.abs(W).sum()
    queries, level = tf.Variable(0), tf.Variable(0.0)

    def predict(x):
        value = tf.reduce_sum((x - 0.5) * W, axis=[1, 2, 3])
        queries.assign_add(tf.size(value))
        return tf.stack([tf.fill(tf.shape(value), level.read_value()), value], axis=1)

    used = {}
    for patience in (0.0, 4.0):
        options = {"draws": 1, "steps": 600, "check_every": 10, "patience": patience}
        settings = attack_settings("square", EPS, **options)
        attack = build_attack(predict, settings, make_judge(predict, 1))
        for share in (1.01, 100.0):
            level.assign(share * reach)
            queries.assign(0)
            attack.run(x, np.zeros(2, int), 0)
            used[share, patience] = int(queries)
    assert used[100.0, 4.0] < 0.2 * used[100.0, 0.0]
    assert used[1.01, 4.0] > 2 * used[100.0, 4.0]


def test_vectors_are_refused():
    with pytest.raises(UserError, match="patches of images"):
        run(lambda x: x[:, :2], np.full((2, 5), 0.5, np.float32), np.zeros(2, int))


@pytest.mark.parametrize(
    ("wrong", "said"), [({"area": 1.5}, "at most 1"), ({"renew_every": 0}, "renew_every >= 1")]
)
def test_settings_that_make_no_sense_are_refused(wrong, said):
    with pytest.raises(UserError, match=said):
        attack_settings("square", EPS, **wrong)
