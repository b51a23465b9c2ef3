import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from zoo import bare_target

from pnil_tf.attacks.attack import Kind
from pnil_tf.attacks.registry import attacks_of_kind
from pnil_tf.errors import UserError
from pnil_tf.evaluation.effort import settings_of_effort, settings_with
from pnil_tf.evaluation.obfuscation.evidence import CHECKS, Evidence
from pnil_tf.evaluation.obfuscation.floors import FLOORS, too_weak
from pnil_tf.evaluation.probes import spent
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.evaluation.suites import planned
from pnil_tf.vocabulary import EFFORTS


def test_the_standard_is_the_default():
    assert settings_with("standard", {"epsilon": 0.1}) == EvaluationSettings(epsilon=0.1)


@pytest.mark.parametrize("effort", EFFORTS)
def test_every_effort_is_known_by_its_name(effort):
    assert settings_with(effort, {"epsilon": 0.1}).effort == effort


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("stochastic", [False, True])
def test_every_effort_has_a_plan(effort, norm, stochastic):
    """Restarts go to the attacks that begin at random; others would repeat themselves."""
    settings = settings_with(effort, {"epsilon": 0.1, "norm": norm})
    plan = planned(settings, bare_target(stochastic))
    assert plan["pgd_strong"].settings.restarts == (settings.restarts or 2)
    for attack in plan.values():
        assert attack.settings.restarts == 1 or attack.settings.random_start


def test_single_settings_take_the_place_of_the_efforts():
    settings = settings_with("quick", {"epsilon": 0.1, "images": 7})
    assert settings.images == 7
    assert settings.steps == settings_of_effort("quick")["steps"]


def test_a_quick_look_is_below_a_floor_whatever_the_model():
    quick = settings_with("quick", {"epsilon": 0.1})
    (floor,) = [floor.least for floor in FLOORS if floor.of == CHECKS]
    assert quick.check_images < floor


def weak(settings):
    """What is too weak of these settings for a verdict, on 100 images."""
    target = bare_target()
    share = np.ones(100)
    outcomes = {
        name: SimpleNamespace(settings=attack.settings, share=share)
        for name, attack in planned(settings, target).items()
    }
    effort = spent(SimpleNamespace(settings=settings, target=target, x=share), outcomes)
    evidence = Evidence(
        classes=10,
        guessed=share,
        epsilon=settings.epsilon,
        stochastic=False,
        repeatable=True,
        outputs="logits",
        saturated=0.0,
        clean=share,
        attacks=dict.fromkeys(outcomes, share),
        effort=effort,
        checked=100,
    )
    finding = too_weak(evidence)
    return "" if finding.passed else finding.explanation


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("attack", ["auto", "autoattack", *attacks_of_kind(Kind.GRADIENT)])
def test_no_attack_is_too_weak_at_its_defaults(attack, norm):
    """But `pgd` as in the paper, which starts once."""
    found = weak(settings_with("standard", {"epsilon": 0.3, "norm": norm, "attacks": (attack,)}))
    assert found.removeprefix("settings too weak for a verdict: ") in (
        "",
        f"{attack} starts=1 (at least 2)",
    )


@pytest.mark.parametrize(("step_size", "too_long"), [(None, False), (4, False), (6, True)])
def test_steps_that_only_hop_from_edge_to_edge_are_too_weak(step_size, too_long):
    """In radii: those of `pgd_strong` begin with 1 and shrink to a tenth."""
    step = {} if step_size is None else {"step_size": step_size * 0.03}
    asked = {"epsilon": 0.03, "attacks": ("pgd_strong", "square"), **step}
    found = weak(settings_with("standard", asked))
    assert ("pgd_strong step=" in found) is too_long


def test_more_effort_is_no_less_of_anything():
    quick, standard, thorough = (
        dataclasses.asdict(settings_with(effort, {"epsilon": 0.1})) for effort in EFFORTS
    )
    for name in ("images", "check_images", "check_draws", "judge_draws", "eot_samples"):
        assert quick[name] <= standard[name] <= thorough[name]


def test_misspelt_words_are_answered_with_the_right_ones():
    with pytest.raises(UserError, match="Did you mean 'restarts'"):
        settings_with("quick", {"epsilon": 0.1, "restart": 2})
    with pytest.raises(UserError, match=r"There are epsilon, .*, effort, workers"):
        settings_with("quick", {"epsilon": 0.1, "zzz": 2}, ["effort", "workers"])
    with pytest.raises(UserError, match="quick, standard, thorough"):
        settings_with("fast", {"epsilon": 0.1})
