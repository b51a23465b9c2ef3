"""The further stages of a suite: where Square takes much, more is searched for."""

import itertools
import types

import keras
import numpy as np
import pytest
from results import without_times
from zoo import Quantised, bare_target, behind, fixed_noise

from pnil_tf.evaluation import runner, suites
from pnil_tf.evaluation.further import decided, further_stages, look_at
from pnil_tf.evaluation.runner import evaluate, evaluate_shard
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.evaluation.shards import Shard
from pnil_tf.evaluation.store import Store
from pnil_tf.evaluation.suites import SuiteStage, planned
from pnil_tf.progress import Stages

SHAPE = (8, 8, 1)
EPSILON = 0.08
FURTHER = ["apgd_t_again", "square_again"]


def linear():
    network = keras.Sequential(
        [keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(4, use_bias=False)]
    )
    network.layers[-1].kernel.assign(np.random.default_rng(1).normal(size=(64, 4)))
    return network


def rounded(*first):
    """No gradient comes through; a search over scores finds what there is."""
    return behind(keras.Sequential([*first, Quantised()]), linear())


def images(count=12):
    x = np.random.default_rng(0).random((count, *SHAPE)).astype(np.float32)
    return x, linear().predict(x, verbose=0).argmax(axis=1)


def settings(**changed):
    few = {"judge_draws": 4, "eot_samples": 2} | changed
    return EvaluationSettings(**{"epsilon": EPSILON, "checks": False, "batch_size": 5} | few)


CHEAP = {
    "fgsm": SuiteStage("fgsm"),
    "square": SuiteStage("square", {"steps": 20}),
    "apgd_t_again": SuiteStage("noise", if_much_by="square"),
    "square_again": SuiteStage("square", {"steps": 200}, if_much_by="square"),
}
"""A suite of the shape of `auto` whose graphs are made in no time."""


@pytest.fixture
def cheap(monkeypatch):
    """Has `auto` be that suite."""
    for module in (suites, runner):
        monkeypatch.setattr(module, "cascade", lambda *_: CHEAP)
    monkeypatch.setattr(suites, "_TO_BEAT", ())


def test_more_than_a_tenth_of_what_gradients_left_is_much(tmp_path):
    def looked(folder, before, after):
        store = Store(tmp_path / folder, {}, resume=True)
        plan = planned(
            settings(),
            bare_target(),
        )
        outcomes = {
            name: types.SimpleNamespace(share=np.arange(100) < left)
            for name, left in (("pgd_strong", 90), ("apgd_t", before), ("square", after))
        }
        return look_at(types.SimpleNamespace(store=store), plan, outcomes), store

    look, store = looked("little", 80, 73)
    assert (look.at, look.left, look.taken) == ("square", 0.8, pytest.approx(7 / 80))
    assert not look.much
    assert not decided(store)
    assert look.to_json()["stages"] == []
    look, store = looked("much", 80, 71)
    assert look.much
    assert decided(store)
    assert look.to_json()["stages"] == FURTHER
    assert looked("much", 80, 80)[0] == look  # it is decided once
    assert not looked("nothing", 0, 0)[0].much


def test_the_further_stages_of_auto_follow_square_and_begin_from_other_starts():
    plan = planned(settings(), bare_target())
    further = further_stages(plan)
    assert list(further) == FURTHER
    assert {name: attack.after for name, attack in further.items()} == {
        "apgd_t_again": "square",
        "square_again": "apgd_t_again",
    }
    for again, attack in further.items():
        assert attack.settings == plan[again.removesuffix("_again")].settings
    assert not further_stages(planned(settings(attacks=("autoattack",)), bare_target()))
    towards = further_stages(planned(settings(target_class=3), bare_target()))
    assert {name: attack.after for name, attack in towards.items()} == {"square_again": "square"}


def test_where_gradients_find_all_there_is_nothing_further_runs(tmp_path, cheap):
    results = evaluate(linear(), *images(), settings(epsilon=0.03), tmp_path, verbose=0)
    assert 0 < results["attacks"]["square"]["value"] < 1
    assert results["further_stages"] == {
        "at": "square",
        "left": results["attacks"]["fgsm"]["value"],
        "taken": 0.0,
        "stages": [],
        "line": 0.1,
    }
    assert list(results["attacks"]) == ["fgsm", "square"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("norm", "noise"), [("linf", ()), ("l2", ()), ("linf", (fixed_noise(0.02),))]
)
def test_auto_searches_further_in_either_norm_and_with_noise(tmp_path, norm, noise):
    radius = EPSILON if norm == "linf" else 0.4
    asked = settings(norm=norm, epsilon=radius, judge_draws=50)
    results = evaluate(rounded(*noise), *images(), asked, tmp_path, verbose=0)
    assert results["further_stages"]["stages"] == FURTHER
    attacks = results["attacks"]
    values = [attacks[name]["value"] for name in ("apgd_t", "square", *FURTHER)]
    # An image is replaced by one that does more harm by other draws than those that count.
    scatter = 0.05 if noise else 0.0
    assert all(after <= before + scatter for before, after in itertools.pairwise(values))
    assert values[-1] < values[0]
    assert results["suites"]["auto"]["value"] == pytest.approx(values[-1], abs=scatter)


class InThisProcess:
    """Two shards, worked off here one after the other."""

    workers = 2

    def __init__(self, model, x, y, asked, output):
        self._work, self.found = (model, x, y, asked, output), []

    def work_off(self, target, identity, state, look):
        """Has both worked off."""
        for number in range(2):
            evaluate_shard(
                *self._work,
                Shard(number, 2),
                model_identity=identity["model"],
                pixel_range=tuple(identity["pixel_range"]),
                outputs=target.outputs,
            )
        self.found.append(sorted({file.stem[:-6] for file in state.glob("*-0000?.npz")}))
        look()


def test_where_square_takes_much_one_process_workers_and_a_resumed_one_search_further(
    tmp_path, cheap, monkeypatch
):
    work = (rounded(), *images(), settings())
    said, expected, more = [], {}, {}

    class Heard(Stages):
        def say(self, text):
            said.append(text)

        def expect(self, seconds):
            expected.update(seconds)

        def expect_more(self, seconds):
            more.update(seconds)

    monkeypatch.setattr(runner, "Stages", Heard)
    alone = evaluate(*work, tmp_path / "alone", verbose=0)
    further, attacks = alone["further_stages"], alone["attacks"]
    assert further["at"] == "square"
    assert further["taken"] > further["line"] == 0.1
    assert further["left"] == attacks["fgsm"]["value"]
    assert further["stages"] == FURTHER
    values = [attacks[name]["value"] for name in ("fgsm", "square", *FURTHER)]
    assert values == sorted(values, reverse=True)
    # The second search has random numbers of its own.
    assert values[1] > values[-1] == alone["suites"]["auto"]["value"] > 0
    assert alone["effective_robustness"]["attack"] == "auto"
    # The time was announced apart, and added when they were decided on.
    assert not set(FURTHER) & set(expected)
    assert alone["predicted_seconds"] == sum(expected.values())
    assert list(more) == FURTHER
    assert all(seconds > 0 for seconds in more.values())
    assert any("more if square takes much" in line for line in said)
    [line] = [line for line in said if line.startswith("square took")]
    assert f"{further['taken']:.1%} of what gradients had left" in line
    assert "apgd_t_again and square_again follow on the images that stand" in line
    found = without_times(alone)

    crew = InThisProcess(*work, tmp_path / "shared")
    shared = evaluate(*work, tmp_path / "shared", verbose=0, crew=crew)
    first, second = crew.found
    assert not set(FURTHER) & set(first)
    assert set(FURTHER) <= set(second)
    assert without_times(shared) == found

    really = runner.Trial.attack_batch

    def attack_batch(trial, name, *arguments):
        if name == "square_again":
            raise KeyboardInterrupt
        return really(trial, name, *arguments)

    with monkeypatch.context() as interrupted:
        interrupted.setattr(runner.Trial, "attack_batch", attack_batch)
        with pytest.raises(KeyboardInterrupt):
            evaluate(*work, tmp_path / "again", verbose=0)
    again = evaluate(*work, tmp_path / "again", verbose=0, resume=True)
    assert without_times(again) == found
