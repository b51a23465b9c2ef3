"""Cleverhans' PGD with our gradient, start and bounds."""

from functools import lru_cache

import numpy as np
import pytest
import tensorflow as tf
from classifiers import NoisyLinear, linear, make_judge
from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent
from hypothesis import given, settings
from hypothesis import strategies as st

from pnil_tf import rng
from pnil_tf.attacks.eot import cross_entropy
from pnil_tf.attacks.losses import attack_loss
from pnil_tf.attacks.registry import attack_settings, build_attack

W = np.random.default_rng(0).normal(size=(4, 4, 1)).astype(np.float32)
EPS = 0.1


def run(predict, x, y, seed=0, **options):
    judge = make_judge(predict, 1)
    return build_attack(predict, attack_settings("pgd", EPS, **options), judge).run(x, y, seed)


@pytest.mark.parametrize("options", [{"faithful": True}, {"loss": "margin"}])
def test_reaches_the_best_perturbation_of_a_linear_model(images, labels, options):
    moved = run(linear(W), images, labels, draws=1, steps=20, **options)
    lost = make_judge(linear(W), 1)(moved, labels, rng.make_seed(0)) == 0
    corner = images + EPS * np.sign(W)
    if options.get("faithful"):
        lost[:] = False  # nobody has left early
    np.testing.assert_allclose(moved[~lost], corner[~lost], atol=1e-6)


def test_reaches_the_best_perturbation_in_l2(images, labels):
    moved = run(linear(W), images, labels, draws=1, steps=20, norm="l2")
    np.testing.assert_allclose(moved, images + EPS * W / np.linalg.norm(W), atol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("targeted", [False, True])
def test_equals_cleverhans_called_plainly(trained, blobs, norm, targeted):
    """Without noise and from x, ours is theirs, step for step."""
    x, y = blobs[0][:6], blobs[1][:6]

    def predict(x):
        with rng.noise_off():
            return trained(x, training=False)

    theirs = projected_gradient_descent(
        predict,
        tf.constant(x),
        EPS,
        0.02,
        7,
        np.inf if norm == "linf" else 2,
        y=tf.constant(y),
        clip_min=0.0,
        clip_max=1.0,
        targeted=targeted,
        rand_init=False,
    )
    ours = run(
        predict,
        x,
        y,
        steps=7,
        step_size=0.02,
        draws=1,
        norm=norm,
        targeted=targeted,
        random_start=False,
        faithful=True,
    )
    # A pixel whose gradient is all but zero may have either sign.
    assert np.mean(np.abs(ours - theirs) < 1e-5) > 0.99


@pytest.mark.parametrize("name", ["pgd", "pgd_strong"])
def test_a_pause_changes_nothing(images, labels, name):
    """Seeds follow the step's own number, and the running mean survives."""
    model = NoisyLinear()
    whole, paused = (
        build_attack(
            model,
            attack_settings(
                name,
                EPS,
                steps=7,
                momentum=0.8,
                schedule=((0.5, 0.4), (0.5, 1.0)),
                draws=5,
                restarts=1,
                loss="cross_entropy",
                check_every=every,
            ),
            lambda x, y, seed: np.ones(len(x), np.float32),  # nobody leaves
        ).run(images, labels, 3)
        for every in (0, 3)
    )
    np.testing.assert_allclose(whole, paused, atol=1e-6)


def test_every_step_draws_its_own_noise():
    """If steps shared their noise they would add up instead of wandering."""
    model = NoisyLinear()
    model.layer.kernel.assign(tf.fill((4, 4, 1), 400.0))  # the gradient's sign is a coin
    model.layer.bias.assign(tf.fill((4, 4, 1), -200.0))
    x = np.full((50, 4, 4, 1), 0.5, np.float32)
    attack = attack_settings(
        "pgd",
        0.4,
        steps=64,
        step_size=0.001,
        draws=1,
        random_start=False,
        faithful=True,
        loss="margin",
    )
    moved = build_attack(model, attack, make_judge(model, 1)).run(x, np.zeros(50, int), 3)
    rms = np.sqrt(np.mean(np.square(moved - x)))
    assert rms == pytest.approx(0.001 * np.sqrt(64), rel=0.15)


@lru_cache
def small_attack(norm, epsilon):
    attack = attack_settings("pgd", epsilon, norm=norm, draws=2, steps=4)
    model = NoisyLinear()
    return build_attack(model, attack, make_judge(model, 2))


@settings(max_examples=10, deadline=None)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    epsilon=st.sampled_from([0.02, 1.5]),
    level=st.floats(0, 1),
    seed=st.integers(0, 2**62),
)
def test_images_stay_in_range_and_ball(norm, epsilon, level, seed):
    x = np.full((3, 4, 4, 1), level, np.float32)
    moved = small_attack(norm, epsilon).run(x, np.zeros(3, int), seed)
    assert moved.min() >= 0
    assert moved.max() <= 1
    flat = (moved - x).reshape(3, -1)
    distance = np.abs(flat).max(1) if norm == "linf" else np.linalg.norm(flat, axis=1)
    assert distance.max() <= epsilon * (1 + 1e-5) + 1e-6


def test_fewer_draws_at_first_are_as_strong(trained, blobs):
    """The schedule against full draws at every step, on the same images."""
    x, y = blobs[0][:200], blobs[1][:200]
    predict = lambda x: trained(x, training=False)  # noqa: E731
    judge = make_judge(predict, 50)
    left = {}
    for faithful in (True, False):
        attack = attack_settings("pgd", 0.2, steps=10, draws=40, faithful=faithful)
        moved = build_attack(predict, attack, judge).run(x, y, 1)
        left[faithful] = judge(moved, y, rng.make_seed(99))
    assert 0.05 < left[True].mean() < 0.95  # else there is nothing to compare
    difference = left[False] - left[True]
    assert difference.mean() < 0.01 + 2 * difference.std() / np.sqrt(len(x))


def test_targeted_reaches_its_class(trained, blobs):
    x, y = blobs[0][:20], (blobs[1][:20] + 1) % 4
    predict = lambda x: trained(x, training=False)  # noqa: E731
    judge = make_judge(predict, 10)
    attack = attack_settings("pgd", 0.4, steps=10, draws=4, targeted=True)
    moved = build_attack(predict, attack, judge).run(x, y, 0)
    assert judge(moved, y, rng.make_seed(9)).mean() > 0.9


def test_loss_of_a_target_is_cleverhans_targeted_flag():
    logits = tf.random.stateless_normal((5, 4), [0, 1])
    y = tf.constant([0, 1, 2, 3, 0])
    towards = attack_loss("cross_entropy", targeted=True)(y, logits)
    np.testing.assert_allclose(towards, -cross_entropy(y, logits))
