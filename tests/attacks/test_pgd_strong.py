"""PGD with large, shrinking steps."""

from functools import lru_cache

import numpy as np
import pytest
import tensorflow as tf
from classifiers import NoisyLinear, linear, make_judge
from hypothesis import given, settings
from hypothesis import strategies as st

from pnil_tf import rng
from pnil_tf.attacks.eot import EOT
from pnil_tf.attacks.pgd_strong import shrinking_steps
from pnil_tf.attacks.registry import attack_settings, build_attack
from pnil_tf.attacks.trials import Stretch

W = np.random.default_rng(0).normal(size=(4, 4, 1)).astype(np.float32)
EPS = 0.1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_reaches_the_best_perturbation_of_a_linear_model(images, labels, norm):
    predict = linear(W)
    attack = attack_settings("pgd_strong", EPS, norm=norm, draws=1, steps=30, check_every=0)
    moved = build_attack(predict, attack, make_judge(predict, 1)).run(images, labels, 0)
    best = EPS * (np.sign(W) if norm == "linf" else W / np.linalg.norm(W))
    gain = ((moved - images) * W).sum(axis=(1, 2, 3)) / (best * W).sum()
    np.testing.assert_allclose(gain, 1.0, atol=3e-3)


def test_steps_shrink_geometrically():
    lengths = []
    attack = attack_settings("pgd_strong", 0.4, steps=5, step_size=0.1, step_decay=0.01, eot=EOT())
    x = tf.fill((1, 4, 4, 1), 0.5)
    for first in range(5):
        moved, _ = shrinking_steps(
            linear(W),
            lambda labels, logits: logits[:, 1],
            attack,
            Stretch(
                x, tf.zeros(1, tf.int32), (x, tf.zeros_like(x)), rng.make_seed(0), first, steps=1
            ),
        )
        lengths.append(np.abs(moved - x).max())
    np.testing.assert_allclose(lengths, 0.1 * 0.01 ** (np.arange(5) / 4), rtol=1e-3)


@lru_cache
def small_attack(norm, epsilon):
    attack = attack_settings(
        "pgd_strong", epsilon, norm=norm, draws=2, steps=4, restarts=1, loss="margin"
    )
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


def test_leaves_no_more_than_plain_pgd(trained, blobs):
    x, y = blobs[0][:200], blobs[1][:200]
    predict = lambda x: trained(x, training=False)  # noqa: E731
    judge = make_judge(predict, 30)
    left = {}
    for name in ("pgd", "pgd_strong"):
        attack = attack_settings(name, 0.2, steps=10, draws=20, loss="cross_entropy")
        moved = build_attack(predict, attack, judge).run(x, y, 1)
        left[name] = judge(moved, y, rng.make_seed(99)).mean()
    assert left["pgd_strong"] <= left["pgd"] + 0.02
