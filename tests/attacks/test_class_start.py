"""A start that knows the label: its direction, and its mixture with noise."""

import numpy as np
import pytest
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.attacks.class_start import class_signs, mixed_start
from pnil_tf.attacks.eot import cross_entropy
from pnil_tf.attacks.one_step import craft, random_start, step_attack
from pnil_tf.errors import UserError

KERNEL = np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32)
EPS = 0.1


def predict(x):
    return tf.reshape(x, [-1, 16]) @ KERNEL


def test_of_two_classes_the_directions_are_the_signs_of_the_weights_that_tell_them_apart():
    signs = class_signs(predict, cross_entropy, tf.range(2), (4, 4, 1), rng.make_seed(0)).numpy()
    apart = np.sign(KERNEL[:, 1] - KERNEL[:, 0]).reshape(4, 4, 1)
    assert np.array_equal(signs, [apart, -apart])


def test_half_of_the_start_is_the_direction_and_half_is_noise():
    signs = np.where(np.random.default_rng(1).random((200, 8, 8, 1)) < 0.5, -1.0, 1.0)
    start = mixed_start(tf.constant(signs, tf.float32), rng.make_seed(0), EPS).numpy()
    directed = start == EPS * signs.astype(np.float32)
    assert directed.mean() == pytest.approx(0.5, abs=0.02)
    noise = start[~directed]
    assert np.abs(noise).max() < EPS
    assert noise.std() == pytest.approx(EPS / np.sqrt(3), rel=0.03)
    assert abs(np.corrcoef(noise, signs[~directed])[0, 1]) < 0.03


def test_liet_steps_from_that_start_and_comes_back_into_the_ball():
    attack, seed = step_attack("liet", EPS), rng.make_seed(3)
    x = tf.constant(np.random.default_rng(2).uniform(0.3, 0.7, (6, 4, 4, 1)), tf.float32)
    y = tf.constant([0, 1, 0, 1, 1, 0])
    apart = np.sign(KERNEL[:, 1] - KERNEL[:, 0]).reshape(4, 4, 1)
    own = tf.constant(np.where(y.numpy()[:, None, None, None] == 0, apart, -apart), tf.float32)
    start = random_start(tf.shape(x), rng.fold(seed, 1), attack, own)
    found = craft(predict, cross_entropy, x, y, seed, attack, signs=own)
    expected = x + tf.clip_by_value(start + EPS * own, -EPS, EPS)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_liet_without_directions_or_in_another_norm_is_refused():
    with pytest.raises(UserError, match="AdversarialModel"):
        random_start(tf.constant([1, 4, 4, 1]), rng.make_seed(0), step_attack("liet", EPS))
    with pytest.raises(UserError, match="linf"):
        step_attack("liet", EPS, norm="l2")
