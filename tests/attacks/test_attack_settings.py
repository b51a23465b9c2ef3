"""The evaluation's attack settings: the paper's defaults, and clear refusals."""

import dataclasses
import json

import numpy as np
import pytest

from pnil_tf.attacks.eot import EOT
from pnil_tf.attacks.one_step import step_attack
from pnil_tf.attacks.registry import attack_settings
from pnil_tf.attacks.schedule import draw_phases
from pnil_tf.attacks.settings import AttackSettings
from pnil_tf.errors import UserError
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.vocabulary import ATTACKS


def test_pgd_is_the_papers():
    pgd = attack_settings("pgd", 0.3, faithful=True)
    assert (pgd.steps, pgd.eot.draws, pgd.eot.antithetic) == (50, 100, False)
    assert pgd.step_size == pytest.approx(2 * 0.3 / 50)
    assert pgd.schedule == ((1.0, 1.0),)
    assert pgd.check_every == 0


def test_spsa_is_the_papers():
    spsa = attack_settings("spsa", 0.3)
    assert (spsa.steps, spsa.samples, spsa.loss) == (100, 2048, "margin")


def test_pgd_strong_tries_both_losses_with_shrinking_steps():
    strong = attack_settings("pgd_strong", 0.3)
    assert strong.losses == ("cross_entropy", "margin")
    assert strong.step_size == pytest.approx(0.3)
    assert strong.step_decay == 0.1


def test_few_strong_steps_are_long_enough_to_cross_the_ball():
    for steps in (5, 10, 20, 50, 100):
        strong = attack_settings("pgd_strong", 0.3, steps=steps)
        shares = strong.step_decay ** (np.arange(steps) / (steps - 1))
        assert strong.step_size <= 0.3
        assert strong.step_size * shares.sum() >= 2 * 0.3


def test_the_step_follows_the_number_of_steps():
    for options in ({"draws": 1}, {"faithful": True}):
        assert attack_settings("pgd", 0.3, steps=10, **options).step_size == pytest.approx(0.06)
    assert attack_settings("pgd", 0.3, steps=10).step_size == pytest.approx(0.066)
    assert attack_settings("pgd", 0.3, steps=1).step_size == pytest.approx(0.3)
    assert attack_settings("pgd", 0.3, steps=10, step_size=0.01).step_size == 0.01


def test_one_draw_is_not_thinned_out():
    pgd = attack_settings("pgd", 0.3, draws=1)
    assert pgd.momentum == 0
    assert pgd.schedule == ((1.0, 1.0),)


def test_draws_alone_can_be_set():
    assert attack_settings("pgd", 0.3, draws=8).eot == dataclasses.replace(
        attack_settings("pgd", 0.3).eot, draws=8
    )


@pytest.mark.parametrize("name", ATTACKS)
def test_settings_are_ready_for_json(name):
    json.dumps(dataclasses.asdict(attack_settings(name, 0.1)), allow_nan=False)


def test_phases_take_their_shares():
    phases = draw_phases(
        EOT(100, 5, antithetic=True), attack_settings("pgd_strong", 1.0).schedule, 50
    )
    assert [(first, eot.draws) for first, eot in phases] == [(0, 4), (30, 20), (45, 100)]
    assert all(eot.chunk == 5 and eot.antithetic for _, eot in phases)


@pytest.mark.parametrize("draws", [1, 2, 3, 7])
def test_few_draws_stay_within_their_number(draws):
    schedule = attack_settings("pgd_strong", 1.0).schedule
    phases = draw_phases(EOT(draws, antithetic=True), schedule, 10)
    assert all(1 <= eot.draws <= draws for _, eot in phases)
    assert phases[-1][1].draws == draws


WRONG = [
    ("pgd", {"epsilon": 0}, "epsilon > 0"),
    ("pgd", {"epsilon": float("nan")}, "epsilon > 0"),
    ("pgd", {"epsilon": "0.3"}, "epsilon > 0"),
    ("pgd", {"draws": 0}, "draws >= 1"),
    ("pgd", {"steps": 0}, "steps >= 1"),
    ("pgd", {"steps": 2.5}, "steps >= 1"),
    ("pgd", {"restarts": 0}, "restarts >= 1"),
    ("pgd", {"step_size": -0.1}, "step_size > 0"),
    ("pgd", {"step_size": 0.4}, "step_size <= epsilon"),
    ("pgd", {"step_decay": 0.5}, "one length"),
    ("pgd", {"norm": "l1"}, "No norm"),
    ("pgd", {"loss": "hinge"}, "No loss"),
    ("pgd", {"loss": "margin+hinge"}, "No loss"),
    ("pgd", {"norm": "l2", "restarts": 2}, "pgd_strong"),
    ("pgd", {"norm": "l2", "random_start": True}, "pgd_strong"),
    ("pgd", {"norm": "l2", "check_every": 5}, "pgd_strong"),
    ("pgd", {"check_every": -1}, "check_every >= 0"),
    ("pgd", {"clip_min": 1.0}, "clip_min < clip_max"),
    ("pgd", {"schedule": ((0.5, 1.0),)}, "summing to 1"),
    ("pgd", {"schedule": ()}, "summing to 1"),
    ("pgd", {"schedule": ((1.0, 0.0),)}, "summing to 1"),
    ("pgd", {"faithful": True, "check_every": 5}, "faithful"),
    ("pgd", {"faithful": True, "eot": EOT(10, antithetic=True)}, "faithful"),
    ("pgd", {"momentum": 1.0}, "momentum < 1"),
    ("pgd", {"momentum": -0.1}, "momentum < 1"),
    ("pgd", {"faithful": True, "momentum": 0.5}, "faithful"),
    ("pgd", {"learning_rate": 0.1}, "no such setting"),
    ("pgd_strong", {"step_decay": 0.0}, "step_decay <= 1"),
    ("spsa", {"samples": 101}, "even number"),
    ("spsa", {"samples": 0}, "samples >= 1"),
    ("spsa", {"delta": 0.0}, "delta > 0"),
    ("spsa", {"norm": "l2"}, "l_inf ball alone"),
    ("spsa", {"max_evaluations_in_flight": 0}, "max_evaluations_in_flight >= 1"),
    ("bim", {}, "No attack has this name"),
]


@pytest.mark.parametrize(("name", "wrong", "message"), WRONG)
def test_wrong_settings_get_one_clear_sentence(name, wrong, message):
    values = {"epsilon": 0.3, **wrong}
    with pytest.raises(UserError, match=message) as caught:
        attack_settings(name, **values)
    assert "Received" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_built_by_hand_are_checked_too():
    with pytest.raises(UserError, match="No attack has this name"):
        AttackSettings("nothing", 0.1, 1, 0.1)


def test_numbers_of_numpy_are_taken():
    epsilon = np.float32(0.1)
    for made in (step_attack("fgsm", epsilon), attack_settings("pgd", epsilon, steps=np.int64(3))):
        assert (made.epsilon, type(made.epsilon)) == (float(epsilon), float)
    json.dumps(EvaluationSettings(epsilon=epsilon, images=np.int64(5)).to_json())
