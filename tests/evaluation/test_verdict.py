import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.evaluation.finding import Finding, Weight
from pnil_tf.evaluation.obfuscation.floors import TOO_WEAK
from pnil_tf.evaluation.obfuscation.guessing import GUESSES
from pnil_tf.evaluation.statistics import Interval
from pnil_tf.evaluation.verdict import (
    Judge,
    check_adversarial,
    decide,
    distances,
    worst_per_image,
)
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


def test_the_worst_case_is_over_attacks_of_each_image():
    shares = {"a": np.array([1.0, 0.0, 0.5]), "b": np.array([0.0, 1.0])}
    assert worst_per_image(shares) == ["b", "a", "a"]


def finding(weight, passed=False):
    return Finding("n", passed, 1.0, 0.0, f"the {weight.value} check saw it", "r", weight)


CLEAN = Interval(0.98, 0.96, 0.99)
ROBUST, BROKEN = Interval(0.6, 0.5, 0.7), Interval(0.02, 0.0, 0.07)


def decided(findings, effective=ROBUST, clean=CLEAN):
    return decide(findings, clean, effective, "pgd", 0.1, 0.3)


@pytest.mark.parametrize(
    ("weights", "verdict"),
    [
        ([], "credible"),
        ([Weight.NOTE], "credible"),
        ([Weight.DOUBT, Weight.NOTE], "doubtful"),
        ([Weight.DOUBT, Weight.HIDES], "obfuscated"),
    ],
)
def test_the_gravest_failed_finding_decides(weights, verdict):
    passed = [finding(weight, passed=True) for weight in Weight]
    found = decided([*passed, *map(finding, weights)])
    assert found.verdict == verdict
    if verdict != "credible":
        gravest = "hides" if verdict == "obfuscated" else "doubt"
        assert found.reason.startswith(f"{verdict}: the {gravest} check saw it")
    assert found.reason.endswith(".")
    assert "\n" not in found.reason


def test_no_robustness_is_a_credible_figure():
    found = decided([], effective=BROKEN)
    assert found.verdict == "credible"
    assert found.reason.startswith("not robust: accuracy at epsilon 0.3 is 2.0%")


def named(name, weight=Weight.DOUBT):
    return dataclasses.replace(finding(weight), name=name, explanation=f"{name} was seen")


def test_no_classifier_is_said_to_be_none_whatever_else_was_found():
    found = decided([finding(Weight.HIDES), named(GUESSES)], clean=Interval(0.95, 0.93, 0.97))
    assert found.verdict == "doubtful"
    assert found.reason.startswith(f"doubtful: {GUESSES} was seen; no classifier: clean accuracy")


def test_what_is_no_better_than_guessing_is_not_robust():
    found = decide([], CLEAN, ROBUST, "pgd", 0.55, 0.3)
    assert found.reason.startswith("not robust")
    assert "guessing 55.0%" in found.reason


def test_settings_that_are_too_weak_come_first():
    found = decided([finding(Weight.DOUBT), named(TOO_WEAK)])
    assert found.reason.startswith(f"doubtful: {TOO_WEAK} was seen; and the doubt check saw it")
