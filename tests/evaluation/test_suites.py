"""Suites: which attacks they are, and that each goes on from what stands."""

import dataclasses
import types

import keras
import numpy as np
import pytest
from zoo import bare_target, fixed_noise

from pnil_tf.attacks.eot import EOT
from pnil_tf.attacks.registry import attack_settings
from pnil_tf.errors import UserError
from pnil_tf.evaluation.effort import settings_with
from pnil_tf.evaluation.obfuscation.strength import score_search
from pnil_tf.evaluation.probes import gather, spent
from pnil_tf.evaluation.room import UNBOUNDED
from pnil_tf.evaluation.runner import _judgement, _suites, evaluate
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.evaluation.store import Store
from pnil_tf.evaluation.suites import cascade, identity_of, planned
from pnil_tf.evaluation.target import as_target
from pnil_tf.evaluation.trial import Trial
from pnil_tf.vocabulary import ATTACKS, SUITES, TRANSFER

SHAPE = (6, 6, 1)


def images(count=30, classes=4):
    x = np.random.default_rng(0).random((count, *SHAPE)).astype(np.float32)
    return x, model(classes).predict(x, verbose=0).argmax(axis=1)


def model(classes=4):
    network = keras.Sequential(
        [keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(classes)]
    )
    network.layers[-1].kernel.assign(np.random.default_rng(1).normal(size=(36, classes)))
    return network


def names(suite, **about):
    """The stages that run in any case."""
    stages = cascade(suite, bare_target(**about))
    return [name for name, stage in stages.items() if stage.if_much_by is None]


def test_auto_begins_with_gradients_and_ends_without():
    assert names("auto") == ["pgd_strong", "apgd_t", "square"]


def test_auto_looks_for_the_nearest_boundary_in_l2():
    asked = EvaluationSettings(epsilon=2.0, norm="l2")
    plan = planned(asked, bare_target())
    after = {name: attack.after for name, attack in plan.items()}
    assert after["fab_t"] == "apgd_t"
    assert after["square"] == "fab_t"
    assert plan["fab_t"].settings.targets == 9


def test_autoattack_is_the_published_ensemble_in_its_order():
    assert names("autoattack") == ["apgd_ce", "apgd_t", "fab_t", "square"]
    asked = EvaluationSettings(epsilon=0.3, attacks=("autoattack",), checks=False)
    plan = planned(asked, bare_target())
    assert [attack.after for attack in plan.values()] == [None, "apgd_ce", "apgd_t", "fab_t"]
    settings = {name: attack.settings for name, attack in plan.items()}
    assert settings["apgd_ce"].steps == settings["apgd_t"].steps == settings["fab_t"].steps == 100
    assert settings["apgd_t"].targets == settings["fab_t"].targets == 9
    assert (settings["square"].steps, settings["square"].patience) == (5000, 0)
    assert all(attack.eot.draws == 1 for attack in settings.values())


def test_autoattack_for_stochastic_models_is_more_than_the_published_one():
    assert names("autoattack", stochastic=True) == ["apgd_ce", "apgd_dlr", "apgd_t", "square"]
    asked = EvaluationSettings(epsilon=0.3, attacks=("autoattack",))
    plan = planned(asked, bare_target(stochastic=True))
    assert plan["apgd_ce"].settings.eot.draws == 20


def test_restarts_are_refused_where_no_attack_begins_at_random():
    asked = EvaluationSettings(0.3, ("pgd",), norm="l2", restarts=3, checks=False)
    with pytest.raises(UserError, match="restarts=3"):
        planned(asked, bare_target())
    both = planned(dataclasses.replace(asked, attacks=("pgd", "pgd_strong")), bare_target())
    assert [attack.settings.restarts for attack in both.values()] == [1, 3]


@pytest.mark.parametrize(
    "option", [{"steps": 7}, {"step_size": 0.1}, {"restarts": 2}, {"loss": "margin"}]
)
def test_what_no_attack_follows_is_refused(option):
    asked = EvaluationSettings(0.3, ("square", "fgsm"), **option)
    [name] = option
    with pytest.raises(UserError, match=f"{name}=.* is for pgd and pgd_strong.* square, fgsm"):
        planned(asked, bare_target())
    source = bare_target()
    source.predict = None  # nothing is run
    planned(asked, bare_target(), source=source)  # which attacks by pgd_strong
    for attacks in (("auto",), ("square", "pgd")):
        planned(dataclasses.replace(asked, attacks=attacks), bare_target())


def test_what_an_effort_sets_may_find_no_attack_that_follows():
    planned(settings_with("quick", {"epsilon": 0.3, "attacks": ("square",)}), bare_target())


def test_all_that_decides_an_attack_is_in_its_identity_and_nothing_of_the_device():
    def identity(**settings):
        plan = planned(EvaluationSettings(0.3, ("pgd_strong",)), bare_target(stochastic=True))
        changed = dataclasses.replace(plan["pgd_strong"].settings, **settings)
        return identity_of({"it": dataclasses.replace(plan["pgd_strong"], settings=changed)})["it"]

    assert identity(step_size=0.1) != identity(step_size=0.3)
    assert identity(eot=EOT(10)) != identity(eot=EOT(20))
    assert identity(eot=EOT(10, 5), max_evaluations_in_flight=9) == identity(eot=EOT(10, 2))


def test_there_are_no_more_targets_than_other_classes():
    for suite in SUITES:
        plan = planned(EvaluationSettings(0.1, (suite,)), bare_target(classes=2))
        assert plan["apgd_t"].settings.targets == 1
    for name in ("apgd_t", "fab_t"):
        plan = planned(EvaluationSettings(0.1, (name,)), bare_target(classes=4))
        assert plan[name].settings.targets == plan[name].settings.starts == 3


@pytest.mark.parametrize(
    ("name", "options", "starts"),
    [
        ("pgd_strong", {}, 4),
        ("pgd_strong", {"restarts": 3, "loss": "margin"}, 3),
        ("apgd_t", {}, 9),
        ("apgd_ce", {"targeted": True}, 3),
        ("apgd_ce", {"target_class": 1}, 1),
    ],
)
def test_starts_are_restarts_times_losses_times_targets(name, options, starts):
    asked = EvaluationSettings(0.1, (name,), **options)
    plan = planned(asked, bare_target())
    trial = types.SimpleNamespace(settings=asked, target=bare_target(), x=np.zeros((5, *SHAPE)))
    left = types.SimpleNamespace(settings=plan[name].settings, share=np.ones(5))
    assert spent(trial, {name: left})[name]["starts"] == starts


def test_beside_auto_run_the_attacks_that_any_other_must_beat():
    plan = planned(EvaluationSettings(epsilon=0.1), bare_target())
    assert [name for name, attack in plan.items() if attack.after is None] == [
        "pgd_strong",
        "fgsm",
        "noise",
    ]


@pytest.mark.parametrize("attacks", [("auto", "square"), ("apgd_ce", "autoattack")])
def test_an_attack_that_belongs_to_a_suite_is_not_run_besides(attacks):
    with pytest.raises(UserError, match="part of a suite"):
        planned(EvaluationSettings(epsilon=0.1, attacks=attacks), bare_target())


def test_every_attack_of_a_suite_is_one():
    for suite in SUITES:
        for stochastic in (False, True):
            stages = cascade(suite, bare_target(stochastic))
            assert {stage.attack for stage in stages.values()} <= set(ATTACKS)


def test_attacks_that_follow_see_the_survivors_alone(tmp_path, monkeypatch):
    x, y = images()
    settings = EvaluationSettings(epsilon=0.1, batch_size=8, attacks=("apgd_ce", "square"))
    trial = Trial(as_target(model(), x), x, y, settings, Store(tmp_path / "state", {}, False))
    plan = planned(settings, trial.target)
    first = trial.attack("apgd_ce", plan["apgd_ce"].settings, 30)
    standing = first.share > 0
    assert 0 < standing.sum() < 30
    seen = []
    attack = trial._build(plan["square"].settings, None)

    def run(x, y, seed, progress):
        seen.append(x)
        return x

    monkeypatch.setattr(trial, "_build", lambda *_: types.SimpleNamespace(run=run))
    second = trial.attack("square", attack.settings, 30, after=first)
    np.testing.assert_array_equal(np.concatenate(seen), x[standing])
    # What it has found is no worse for the model, so all keep what was found before.
    np.testing.assert_array_equal(second.adversarial, first.adversarial)
    np.testing.assert_array_equal(second.votes, first.votes)


def test_along_a_suite_a_poor_attack_replaces_no_better_image_of_a_model_with_noise(tmp_path):
    x, y = images()
    settings = EvaluationSettings(epsilon=0.1, batch_size=8, checks=False)
    noisy = as_target(keras.Sequential([keras.Input(SHAPE), fixed_noise(0.3), model()]), x)
    trial = Trial(noisy, x, y, settings, Store(tmp_path / "state", {}, False))
    good = attack_settings("pgd", 0.1, draws=10, steps=10)
    first = trial.attack("pgd_strong", good, 30)
    second = trial.attack("square", attack_settings("square", 0.1, steps=3), 30, after=first)
    alone = trial.attack("alone", attack_settings("square", 0.1, steps=3), 30)
    assert alone.share.mean() > first.share.mean() + 0.1
    assert first.share.mean() >= second.share.mean() > 0
    kept = (second.adversarial == first.adversarial).all(axis=(1, 2, 3))
    assert kept.any()
    # The draws that chose are not those that count: a kept image keeps its votes.
    np.testing.assert_array_equal(second.votes[kept], first.votes[kept])
    outcomes = {"pgd_strong": first, "square": second}
    finding = score_search(gather(trial, trial.share(trial.clean_votes()), outcomes, ()))
    assert 0 <= finding.value < 0.02


def test_the_votes_that_count_neither_drop_an_image_from_a_suite_nor_choose_which_is_kept(
    tmp_path,
):
    x, y = images()
    settings = EvaluationSettings(epsilon=0.1, batch_size=8)
    noisy = as_target(keras.Sequential([keras.Input(SHAPE), fixed_noise(0.3), model()]), x)
    trial = Trial(noisy, x, y, settings, Store(tmp_path / "state", {}, False))
    attack = attack_settings("square", 0.1, steps=1)
    first = trial.attack("apgd_t", attack, 30)
    # By the votes that count no image stands. That is chance: other draws see all of them stand.
    lucky = dataclasses.replace(first, votes=np.full_like(first.votes, -1), share=np.zeros(30))
    second = trial.attack("square", attack, 30, after=lucky)
    replaced = (second.adversarial != first.adversarial).any(axis=(1, 2, 3))
    assert 0 < replaced.sum() < 30


def test_a_suite_takes_each_image_as_the_worst_of_its_attacks_left_it(tmp_path):
    """Of a model with noise the last of them may leave more than the first."""
    x, y = images()
    settings = EvaluationSettings(epsilon=0.1)
    trial = Trial(as_target(model(), x), x, y, settings, Store(tmp_path / "state", {}, False))
    first = trial.attack("pgd_strong", planned(settings, trial.target)["pgd_strong"].settings, 30)
    nothing = dataclasses.replace(first, adversarial=x, votes=y[:, np.newaxis], share=np.ones(30))
    outcomes = {"pgd_strong": first, "apgd_t": nothing, "square": nothing}
    [(stages, left)] = _suites(trial, np.ones(30), {**outcomes, "noise": nothing}).values()
    assert stages == tuple(outcomes)
    assert left.share.mean() == first.share.mean() < 1


def test_the_verdict_is_about_the_suite_and_not_about_one_of_its_stages(tmp_path):
    x, y = images()
    settings = EvaluationSettings(epsilon=0.1, checks=False)
    trial = Trial(as_target(model(), x), x, y, settings, Store(tmp_path / "state", {}, False))
    found = trial.attack("pgd_strong", planned(settings, trial.target)["pgd_strong"].settings, 30)
    half = np.arange(30) < 15

    def only(rows):
        adversarial = np.where(rows[:, np.newaxis, np.newaxis, np.newaxis], found.adversarial, x)
        votes = np.where(rows[:, np.newaxis], found.votes, y[:, np.newaxis])
        share = trial.share(votes)
        return dataclasses.replace(found, adversarial=adversarial, votes=votes, share=share)

    outcomes = {"pgd_strong": only(half), "square": only(~half), "noise": only(np.zeros(30, bool))}
    clean = trial.clean_votes()
    evidence = gather(trial, trial.share(clean), outcomes, ())
    suites = _suites(trial, trial.share(clean), outcomes)
    results = _judgement(trial, clean, outcomes, suites, clean, evidence)
    assert results["suites"]["auto"]["value"] == found.share.mean()
    assert found.share.mean() < min(row["value"] for row in results["attacks"].values())
    assert results["effective_robustness"] == {"attack": "auto", **results["suites"]["auto"]}
    assert f"is {found.share.mean():.1%} (95" in results["verdict_reason"]


@pytest.mark.parametrize(("suite", "norm"), [("auto", "linf"), ("autoattack", "l2")])
def test_a_suite_leaves_less_with_every_attack_and_its_figure_has_its_name(tmp_path, suite, norm):
    x, y = images()
    settings = EvaluationSettings(
        epsilon=0.05 if norm == "linf" else 0.3, norm=norm, attacks=(suite,), checks=False
    )
    results = evaluate(model(), x, y, settings, tmp_path)
    stages = [results["attacks"][name] for name in names(suite, classes=4)]
    values = [stage["value"] for stage in stages]
    assert values == sorted(values, reverse=True)
    assert 0 < values[-1] < 1
    assert results["suites"][suite]["value"] == values[-1]
    assert results["effective_robustness"]["value"] == values[-1]
    # Of a linear model gradients find all there is (in l2, but for the edges of the range).
    assert values[0] - values[-1] <= (0 if norm == "linf" else 1 / 30)


@pytest.mark.parametrize("attacks", [("autoattack",), ("pgd_strong", "square"), ("pgd",)])
def test_what_attacks_along_gradients_have_to_beat_runs_beside_them_where_there_are_checks(attacks):
    asked = EvaluationSettings(0.1, attacks)
    assert {"fgsm", "noise"} <= set(planned(asked, bare_target()))
    assert not {"fgsm", "noise"} & set(
        planned(dataclasses.replace(asked, checks=False), bare_target())
    )
    assert list(planned(EvaluationSettings(0.1, ("square",)), bare_target())) == ["square"]


@pytest.mark.parametrize("towards", [{"targeted": True}, {"target_class": 3}])
def test_a_transfer_goes_towards_a_class_with_the_others(towards):
    source = bare_target()
    source.predict = None  # nothing is run
    for settings in (towards, {}):
        plan = planned(EvaluationSettings(0.1, **settings), bare_target(), source)
        assert plan[TRANSFER].settings.targeted is bool(settings)


def test_towards_one_class_go_the_attacks_that_can_be_sent_there():
    settings = EvaluationSettings(epsilon=0.1, target_class=3)
    plan = planned(settings, bare_target())
    assert list(plan) == ["pgd_strong", "square", "square_again", "fgsm", "noise"]
    assert plan["square"].after == "pgd_strong"
    targeted = [name for name, attack in plan.items() if attack.settings.targeted]
    assert targeted == ["pgd_strong", "square", "square_again", "fgsm"]


def test_towards_the_most_promising_classes_all_attacks_stay_in_a_suite():
    plan = planned(EvaluationSettings(epsilon=0.1, targeted=True), bare_target())
    targeted = {name: attack.settings.targeted for name, attack in plan.items()}
    assert targeted == {
        "pgd_strong": True,
        "apgd_t": False,
        "square": True,
        "apgd_t_again": False,
        "square_again": True,
        "fgsm": True,
        "noise": False,
    }


@pytest.mark.parametrize(
    ("change", "stochastic", "said"),
    [
        ({"targeted": True}, False, "targeted=True"),
        ({"target_class": 3}, False, "target_class=3"),
        ({"eot_samples": 2}, True, "eot_samples=2"),
        ({"average": "logits"}, True, "average='logits'"),
    ],
)
def test_the_name_of_the_published_ensemble_is_given_to_nothing_else(change, stochastic, said):
    def plan(attacks):
        return planned(EvaluationSettings(0.1, attacks, **change), bare_target(stochastic))

    with pytest.raises(UserError, match=f"published ensemble.* Received: {said}. Leave"):
        plan(("autoattack",))
    assert plan(("auto",))


def test_draws_that_a_model_without_noise_does_not_need_leave_the_published_ensemble_as_it_is():
    few = EvaluationSettings(0.1, ("autoattack",), eot_samples=2)
    assert planned(few, bare_target()) == planned(
        EvaluationSettings(0.1, ("autoattack",)), bare_target()
    )


def test_a_class_that_cannot_be_aimed_at_is_refused():
    with pytest.raises(UserError, match=r"10 classes, numbered from 0.*target_class=10"):
        planned(EvaluationSettings(epsilon=0.1, target_class=10), bare_target())
    settings = EvaluationSettings(epsilon=0.1, target_class=3, attacks=("apgd_t",))
    with pytest.raises(UserError, match=r"'apgd_t' chooses its classes itself"):
        planned(settings, bare_target())


def test_another_model_s_gradients_are_an_attack_of_their_own():
    source = types.SimpleNamespace(
        stochastic=True,
        num_classes=10,
        noise_is_ours=True,
        predict=lambda x: x,
        room=UNBOUNDED,
    )
    plan = planned(EvaluationSettings(epsilon=0.1), bare_target(), source)
    assert list(plan)[-1] == "transfer"
    assert plan["transfer"].predict is source.predict
    # The draws are those of the model whose gradients are taken.
    assert plan["transfer"].settings.eot.draws == 100
    assert plan["pgd_strong"].settings.eot.draws == 1
