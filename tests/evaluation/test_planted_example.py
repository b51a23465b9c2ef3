"""What is planted is there by construction; working attacks find it, and blind ones do not."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from zoo import Decoy, Quantised, behind, digits, network, noisy, trained

from pnil_tf.attacks.registry import attack_settings
from pnil_tf.evaluation import planted
from pnil_tf.evaluation.features import penultimate
from pnil_tf.evaluation.obfuscation.evidence import NothingPlanted
from pnil_tf.evaluation.planted import planted_examples, searching
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.evaluation.store import Store
from pnil_tf.evaluation.suites import planned
from pnil_tf.evaluation.target import as_target
from pnil_tf.evaluation.trial import Trial

EPSILON = 0.15


@pytest.fixture(scope="module")
def plain():
    return trained(network(seed=0), epochs=15)


@pytest.fixture
def searched(tmp_path, monkeypatch):
    """Plants examples into a model and searches for them."""
    monkeypatch.setattr(planted, "MOST", 12)

    def run(model, norm="linf", epsilon=EPSILON, attacks=None):
        x, y = (array[1400:1440] for array in digits())
        target = as_target(model, x)
        settings = EvaluationSettings(epsilon=epsilon, norm=norm, judge_draws=20)
        trial = Trial(
            target,
            x,
            y,
            settings,
            Store(tmp_path / str(len(list(tmp_path.iterdir()))), {}, resume=False),
        )
        draws = 4 if target.stochastic else 1
        options = {"steps": 10, "restarts": 1, "loss": "margin", "norm": norm, "draws": draws}
        attack = {"pgd_strong": attack_settings("pgd_strong", epsilon, **options)}
        return planted_examples(trial, attacks or attack, 40)

    return run


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", EPSILON), ("l2", 1.0)])
def test_an_attack_that_works_finds_what_is_planted(norm, epsilon, plain, searched):
    found = searched(plain, norm, epsilon)
    assert len(found.by_attack) >= 10
    assert (found.by_image == 0).all()
    assert (found.by_construction == 1).all()
    assert found.by_attack.mean() > 0.85


def test_the_read_out_of_a_callable_is_of_its_logits(plain, searched):
    assert searched(lambda x: plain(x)).by_attack.mean() > 0.85


def test_noise_in_front_does_not_hide_it(plain, searched):
    found = searched(noisy(plain, 0.1))
    assert found.by_construction.min() > 0.3
    assert found.by_image.max() <= 0.1
    assert found.by_attack.mean() > 0.7


@pytest.mark.parametrize("front", [lambda model: model, lambda model: noisy(model, 0.1)])
def test_a_blind_attack_does_not_find_it(front, plain, searched):
    decoy = keras.Sequential([keras.Input((8, 8, 1)), Decoy(plain, network(seed=99))])
    assert searched(front(decoy)).by_attack.mean() < 0.3
    assert searched(behind(Quantised(), plain)).by_attack.mean() < 0.3


def test_an_attack_goes_on_where_another_has_not_found_it(plain, searched):
    blind = attack_settings("pgd", EPSILON, steps=1, step_size=1e-6, draws=1)
    seeing = attack_settings("apgd_t", EPSILON, steps=20, targets=1, draws=1)
    assert searched(plain, attacks={"blind": blind}).by_attack.mean() < 0.3
    assert searched(plain, attacks={"blind": blind, "seeing": seeing}).by_attack.mean() > 0.85


@pytest.mark.parametrize("suite", ["auto", "autoattack"])
def test_those_attacks_of_a_suite_that_follow_gradients_search_for_it(suite, plain, tmp_path):
    x, y = (array[1400:1440] for array in digits())
    targeted = suite == "auto"
    settings = EvaluationSettings(EPSILON, (suite,), check_draws=4, targeted=targeted)
    target = as_target(noisy(plain, 0.1), x)
    trial = Trial(target, x, y, settings, Store(tmp_path / "state", {}, resume=False))
    of_suite = {name: attack.settings for name, attack in planned(settings, target).items()}
    attacks = searching(trial, of_suite)
    expected = {
        "auto": ["pgd_strong", "apgd_t"],
        "autoattack": ["apgd_ce", "apgd_dlr", "apgd_t"],
    }
    assert list(attacks) == [f"check-planted-{name}" for name in expected[suite]]
    for attack in attacks.values():  # of two classes there is no third to measure a loss by
        assert (attack.eot.draws, attack.targeted) == (4, False)
        assert "dlr" not in attack.losses
        assert getattr(attack, "targets", 1) == 1


def test_where_nothing_can_be_planted_it_is_said_why(plain, searched):
    apart = "1 of 40 images lie more than 2.5 epsilon apart, and it takes 10"
    assert searched(plain, epsilon=0.9) == NothingPlanted(1, apart)
    constant = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Rescaling(0.0), plain])
    assert searched(constant).why.startswith("0 of 12 images have a point of the ball's surface")


def test_what_random_points_find_is_too_easy_to_count(plain, searched, monkeypatch):
    assert searched(plain).by_chance == 0
    # Thresholds at the edge of the inside: most points of the surface lie beyond.
    monkeypatch.setattr(planted, "_HEIGHT", {False: 0.0})
    easy = searched(plain)
    assert isinstance(easy, NothingPlanted)
    assert "have one that random points do not find" in easy.why


def test_features_are_what_the_last_layer_is_given(plain):
    x = tf.constant(digits()[0][:5])
    features = penultimate(plain, lambda x: plain(x), x)
    expected = keras.Model(plain.inputs, plain.layers[-2].output)(x)
    np.testing.assert_allclose(features(x), expected, atol=1e-5)
    head = plain.layers[-1]
    np.testing.assert_allclose(head(features(x)), plain(x), atol=1e-4)
    assert "call" not in vars(head)


def test_what_a_gradient_of_its_own_hides_is_no_feature(plain):
    x = tf.constant(digits()[0][:5])
    decoy = Decoy(plain, network(seed=99))
    assert penultimate(decoy, decoy, x) is None
