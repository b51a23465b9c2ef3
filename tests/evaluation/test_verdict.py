import dataclasses

import numpy as np
import pytest

from pnil_tf.evaluation.finding import Finding, Weight
from pnil_tf.evaluation.obfuscation.floors import TOO_WEAK
from pnil_tf.evaluation.obfuscation.guessing import GUESSES
from pnil_tf.evaluation.statistics import Interval
from pnil_tf.evaluation.verdict import decide, worst_per_image


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
    assert found.reason.startswith(
        "not robust: accuracy at epsilon 0.3 of the range (76.5 of 255) is 2.0%"
    )


def test_the_radius_is_said_as_its_norm_has_it():
    found = decide([], CLEAN, ROBUST, "pgd", 0.1, 2.0, norm="l2")
    assert found.reason.startswith("robust accuracy at epsilon 2 of pixels in [0, 1] (510 in")


def named(name, weight=Weight.DOUBT, value=1.0):
    return dataclasses.replace(
        finding(weight), name=name, value=value, explanation=f"{name} was seen"
    )


def test_no_classifier_is_said_to_be_none_whatever_else_was_found():
    guesses = named(GUESSES, value=0.0)
    found = decided([finding(Weight.HIDES), guesses], clean=Interval(0.95, 0.93, 0.97))
    assert found.verdict == "doubtful"
    assert found.reason.startswith(f"doubtful: {GUESSES} was seen; no classifier: clean accuracy")


def test_a_gain_within_chance_is_a_doubt_as_any_other():
    few = named(GUESSES, value=0.08)
    assert decided([few]).reason.startswith(f"doubtful: {GUESSES} was seen; robust accuracy at")
    assert decided([finding(Weight.HIDES), few]).verdict == "obfuscated"


def test_what_is_no_better_than_guessing_is_not_robust():
    found = decide([], CLEAN, ROBUST, "pgd", 0.55, 0.3)
    assert found.reason.startswith("not robust")
    assert "guessing 55.0%" in found.reason


def test_settings_that_are_too_weak_come_first():
    found = decided([finding(Weight.DOUBT), named(TOO_WEAK)])
    assert found.reason.startswith(f"doubtful: {TOO_WEAK} was seen; and the doubt check saw it")
