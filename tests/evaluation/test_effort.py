import dataclasses

import pytest
from zoo import bare_target

from pnil_tf.errors import UserError
from pnil_tf.evaluation.effort import settings_of_effort, settings_with
from pnil_tf.evaluation.obfuscation.evidence import CHECKS
from pnil_tf.evaluation.obfuscation.floors import FLOORS
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
