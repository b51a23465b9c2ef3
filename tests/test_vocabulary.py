"""The shared words, and that the library has what they name."""

import dataclasses
import pkgutil
import subprocess
import sys

import pytest

import pnil_tf.attacks
from pnil_tf.attacks.attack import Kind
from pnil_tf.attacks.ball import ORDERS
from pnil_tf.attacks.losses import attack_loss
from pnil_tf.attacks.registry import attack_named, attack_settings, attacks_of_kind
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.vocabulary import ATTACKS, LOSSES, NORMS


def test_words_cost_no_tensorflow():
    code = "import sys, pnil_tf.vocabulary; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_file_that_is_an_attack_is_named():
    modules = {module.name for module in pkgutil.iter_modules(pnil_tf.attacks.__path__)}
    assert set(ATTACKS) <= modules
    for name in modules:
        module = __import__(f"pnil_tf.attacks.{name}", fromlist=["*"])
        assert hasattr(module, "ATTACK") == (name in ATTACKS)


def test_every_attack_is_of_one_kind():
    assert sorted(attacks_of_kind(*Kind)) == sorted(ATTACKS)
    assert {"fgsm", "noise"} <= set(attacks_of_kind(Kind.SANITY))
    assert "pgd" in attacks_of_kind(Kind.GRADIENT)
    assert "spsa" in attacks_of_kind(Kind.GRADIENT_FREE)


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_follow_options_that_exist_into_settings_that_exist(name):
    attack = attack_named(name)
    options = {field.name for field in dataclasses.fields(EvaluationSettings)}
    assert {*attack.options.values(), attack.images} <= options
    fields = {field.name for field in dataclasses.fields(attack.settings)}
    assert set(attack.options) <= fields | {"draws", "average"}
    assert type(attack_settings(name, 0.1)) is attack.settings
    # Without one, a single step of it would do for a verdict.
    assert bool(attack.floors) == (attack.kind is Kind.GRADIENT_FREE)


def test_losses_and_norms_have_what_they_name():
    assert all(attack_loss(loss, targeted) for loss in LOSSES for targeted in (False, True))
    assert set(ORDERS) == set(NORMS)
