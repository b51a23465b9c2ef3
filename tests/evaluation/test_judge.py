"""The judge sees fresh draws alone, and no broken attack counts."""

import numpy as np
import pytest
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.evaluation.judge import Judge, check_adversarial, distances
from pnil_tf.layers import PNILLayer

X = np.zeros((50, 2, 2, 1), np.float32)
Y = np.zeros(50, np.int32)


def noisy():
    """Chooses class 0 or 1 by the sign of its own noise: right in half of all draws."""
    layer = PNILLayer()
    layer.build((None, 2, 2, 1))

    def predict(x):
        first = layer(x)[:, 0, 0, :]
        return tf.concat([first, -first], axis=1)

    return predict


def test_a_judgement_follows_its_seed_alone():
    judge = Judge(noisy(), 40)
    first, again, other = judge.votes(X, 1), judge.votes(X, 1), judge.votes(X, 2)
    assert first.shape == (50, 40)
    np.testing.assert_array_equal(first, again)
    assert 0.4 < (first != other).mean() < 0.6


def test_draws_and_images_are_independent():
    votes = Judge(noisy(), 40).votes(X, 1)
    assert 0.4 < votes.mean() < 0.6
    assert len({tuple(column) for column in votes.T}) == 40
    assert len({tuple(row) for row in votes}) == 50


def test_an_attack_may_hand_in_a_seed_pair():
    judge = Judge(noisy(), 10)
    np.testing.assert_array_equal(judge(X, Y, rng.make_seed(3)), judge(X, Y, 3))
    assert judge(X, Y, 3).dtype == np.float32


def test_picking_the_best_of_many_looks_does_not_survive_the_judge():
    # The model is right in half of all draws. An attacker that keeps, out of 20 seeds, the one
    # that fools it most must not get a figure below one half from the judge.
    judge = Judge(noisy(), 10)
    luckiest = min(range(20), key=lambda seed: judge(X, Y, seed).mean())
    assert judge(X, Y, luckiest).mean() < 0.48
    assert Judge(noisy(), 200)(X, Y, 1000).mean() == pytest.approx(0.5, abs=0.02)


def test_nan_is_no_answer():
    judge = Judge(lambda x: tf.fill([tf.shape(x)[0], 3], np.nan), 1)
    assert (judge.votes(X, 0) == -1).all()
    assert (judge(X, Y, 0) == 0).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x + 0.2, "linf distance 0.2"),
        (lambda x: x - 0.05, "outside"),
        (lambda x: x + np.nan, "not finite"),
        (lambda x: x[:3], "shape"),
    ],
)
def test_broken_attacks_do_not_count(change, said):
    with pytest.raises(RuntimeError, match=said):
        check_adversarial(X, change(X), 0.1, "linf", "pgd")


def test_the_ball_is_closed():
    check_adversarial(X, X + np.float32(8 / 255), 8 / 255, "linf", "pgd")
    check_adversarial(X, X + np.float32(0.5), 1.0, "l2", "pgd")
    np.testing.assert_allclose(distances(X, X + np.float32(0.5), "l2"), 1.0)
