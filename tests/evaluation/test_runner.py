import dataclasses
import json
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from results import without_times

from pnil_tf.data import memory
from pnil_tf.errors import UserError
from pnil_tf.evaluation.room import Room
from pnil_tf.evaluation.runner import evaluate
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.evaluation.store import Store
from pnil_tf.files import read_json, sha256_of, write_record
from pnil_tf.layers import PNILLayer
from pnil_tf.runs.load import load_model

SMALL = {
    "epsilon": 0.1,
    "attacks": ("pgd", "pgd_strong", "spsa", "fgsm", "noise"),
    "images": 12,
    "batch_size": 5,
    "steps": 2,
    "eot_samples": 2,
    "judge_draws": 4,
    "spsa_images": 7,
    "spsa_samples": 8,
    "spsa_steps": 2,
    "check_images": 6,
    "check_draws": 2,
    "epsilons": (0.1, 0.2),
    "faithful": True,  # quick to trace
}
WHOLE = {**SMALL, "loss": "margin"}
"""Of all attacks with all checks: one loss is quicker to trace than two."""
FAST = {**SMALL, "checks": False, "epsilons": ()}
BY_ITSELF = {**FAST, "steps": None}
"""For attacks that follow no number of steps."""


def noisy_linear():
    """A fixed stochastic classifier of (4, 4, 1) images."""
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            PNILLayer(bias_initializer=keras.initializers.Constant(-3.0), name="noise"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    model.layers[-1].kernel.assign(np.random.default_rng(1).normal(size=(16, 3)))
    return model


def images(n=20):
    x = np.random.default_rng(0).random((n, 4, 4, 1)).astype(np.float32)
    kernel = np.random.default_rng(1).normal(size=(16, 3))
    return x, (x.reshape(n, 16) @ kernel).argmax(axis=1)


def numbers(results):
    """The results without what depends on the clock."""
    return without_times(json.loads(json.dumps(results)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A whole evaluation, its folder and its results."""
    folder = tmp_path_factory.mktemp("evaluation") / "out"
    settings = EvaluationSettings(**WHOLE, save_adversarial=True)
    return folder, evaluate(noisy_linear(), *images(), settings, folder)


def test_results_stand_alone(whole):
    folder, results = whole
    assert read_json(folder / "results.json") == results
    figures = [results[name] for name in ("clean", "effective_robustness", "worst_case_per_image")]
    for row in [*figures, *results["attacks"].values()]:
        assert 0 <= row["low"] <= row["value"] <= row["high"] <= 1
        assert row["images"] in (12, 7)
        assert row["draws"] == 4
    assert set(results["attacks"]) == {"pgd", "pgd_strong", "spsa", "fgsm", "noise"}
    assert results["attacks"]["pgd"]["settings"]["eot"]["draws"] == 2
    assert results["verdict"] in ("credible", "doubtful", "obfuscated")
    assert {"name", "passed", "value", "threshold"} <= set(results["findings"][0])
    assert results["model"]["stochastic"]
    assert results["model"]["pnil_layers"][0]["noise_at_inference"]
    assert results["settings"]["seed"] == results["seed"] == 0
    assert results["versions"]["tensorflow"]
    assert set(results["noise_cells"]) >= {"clean_without", "without_with"}
    assert [row["draws"] for row in results["eot_curve"]] == [1, 2, 5, 10]


def test_min_is_the_lowest_and_the_worst_case_no_higher(whole):
    results = whole[1]
    values = {name: row["value"] for name, row in results["attacks"].items()}
    effective = results["effective_robustness"]
    assert effective["value"] == values[effective["attack"]]
    on_all = {name: value for name, value in values.items() if name != "spsa"}
    assert effective["value"] == min(on_all.values()) or effective["attack"] == "spsa"
    # Judged by draws of its own, so equal only up to their scatter.
    assert results["worst_case_per_image"]["value"] <= effective["value"] + 0.1


def test_arrays_give_the_figures_back(whole):
    folder, results = whole
    assert results["arrays"]["sha256"] == sha256_of(folder / "arrays.npz")
    with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
        for name, row in results["attacks"].items():
            votes = arrays[f"{name}_votes"]
            right = votes == arrays["labels"][: len(votes), np.newaxis]
            assert right.mean() == pytest.approx(row["value"])


def test_saved_adversarial_images_are_in_the_ball(whole):
    folder, _ = whole
    with np.load(folder / "adversarial.npz", allow_pickle=False) as arrays:
        for name in ("pgd", "pgd_strong", "spsa", "fgsm", "noise", "worst_case"):
            change = np.abs(arrays[name] - arrays["images"][: len(arrays[name])])
            assert 0 < change.max() <= 0.1 + 1e-5


def test_nothing_else_is_left(whole):
    assert sorted(file.name for file in whole[0].iterdir()) == [
        ".lock", "adversarial.npz", "arrays.npz", "report.html", "results.json",
    ]  # fmt: skip


def test_an_interrupted_evaluation_gives_the_same_numbers(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    # It loses images on the way, so batches of several sizes are traced in another order.
    change = {"attacks": ("pgd", "noise"), "steps": 30, "faithful": False, "restarts": 2}
    settings = EvaluationSettings(**{**FAST, **change}, save_adversarial=True)

    def evaluated(folder):
        return evaluate(noisy_linear(), *images(), settings, folder, resume=True)

    once = Store.once
    for survives in (2, 5, 9):
        left = [survives]

        def dying(self, name, compute, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return once(self, name, compute)

        with monkeypatch.context() as patch:
            patch.setattr(Store, "once", dying)
            with pytest.raises(Killed):
                evaluated(tmp_path / "out")
    calm = evaluated(tmp_path / "calm")
    assert 0 < calm["attacks"][change["attacks"][0]]["value"] < calm["clean"]["value"]
    assert numbers(evaluated(tmp_path / "out")) == numbers(calm)


def test_another_attack_changes_no_number_of_the_others(whole, tmp_path):
    alone = evaluate(
        noisy_linear(),
        *images(),
        EvaluationSettings(**{**BY_ITSELF, "attacks": ("fgsm",)}),
        tmp_path / "out",
    )
    assert alone["attacks"]["fgsm"]["value"] == whole[1]["attacks"]["fgsm"]["value"]
    assert alone["verdict"] == "doubtful"


def test_results_are_neither_overwritten_nor_mixed(whole, tmp_path):
    folder, results = whole
    settings = EvaluationSettings(**WHOLE)
    with pytest.raises(UserError, match="holds an evaluation"):
        evaluate(noisy_linear(), *images(), settings, folder)
    assert evaluate(noisy_linear(), *images(), settings, folder, resume=True) == results
    before = sha256_of(folder)
    with pytest.raises(UserError, match=r"begun with seed=0\. Received: seed=1\."):
        evaluate(
            noisy_linear(),
            *images(),
            dataclasses.replace(settings, seed=1),
            folder,
            resume=True,
        )
    assert sha256_of(folder) == before
    Store(tmp_path / "state", {"settings": {**settings.to_json(), "images": 1}}, resume=False)
    with pytest.raises(UserError, match="cannot be resumed: it was begun with version None"):
        evaluate(noisy_linear(), *images(), settings, tmp_path, resume=True)


def test_an_exported_model_is_attacked_and_checked(tmp_path):
    """A SavedModel has forgotten the number of images in a batch."""
    noisy_linear().export(str(tmp_path / "saved"), verbose=False)
    loaded = load_model(tmp_path / "saved")
    settings = EvaluationSettings(**{**WHOLE, "attacks": ("pgd_strong", "spsa")})
    results = evaluate(loaded.model, *images(), settings, tmp_path / "out", kind=loaded.kind)
    assert results["model"]["kind"] == "SavedModel"
    assert results["model"]["stochastic"]
    assert not results["model"]["repeatable"]
    assert len(results["epsilon_curve"]) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"attacks": ("pgd_strong",), "norm": "l2", "epsilon": 0.5, "restarts": 2},
        {"attacks": ("pgd_strong", "spsa"), "step_size": 0.2, "restarts": 2},
    ],
)
@pytest.mark.slow
def test_the_checks_run_whatever_suits_the_strong_attack(change, tmp_path):
    settings = EvaluationSettings(**{**SMALL, **change, "epsilons": ()})
    results = evaluate(noisy_linear(), *images(), settings, tmp_path)
    assert len(results["eot_curve"]) > 1


def test_the_worst_case_counts_a_mistake_that_an_attack_mends(tmp_path):
    """The gradient points the wrong way, so every attack moves an image to its class."""
    x = np.full((6, 4, 4, 1), 0.5, np.float32)
    x[:3] += 0.01

    @tf.custom_gradient
    def turned(z):
        return z, lambda slope: -slope

    def model(x):
        z = turned(100.0 * (tf.reduce_mean(x, (1, 2, 3)) - 0.5))
        return tf.stack([-z, z - 2.0], axis=1)

    settings = EvaluationSettings(**{**FAST, "attacks": ("pgd",), "checks": False})
    labels = np.array([0, 0, 0, 1, 1, 1])
    results = evaluate(model, x, labels, settings, tmp_path / "out")
    assert results["worst_case_per_image"]["value"] <= results["clean"]["value"]


def test_no_attack_mends_what_a_deterministic_model_gets_wrong(tmp_path):
    x, y = images()
    model = noisy_linear()
    deterministic = keras.Sequential([keras.Input((4, 4, 1)), *model.layers[1:]])
    wrong = np.arange(len(y)) % 2 == 0
    y = np.where(wrong, (y + 1) % 3, y)
    settings = EvaluationSettings(**FAST, save_adversarial=True)
    results = evaluate(deterministic, x, y, settings, tmp_path / "out")
    arrays = np.load(tmp_path / "out" / "arrays.npz")
    kept = np.load(tmp_path / "out" / "adversarial.npz")
    for name, row in results["attacks"].items():
        assert row["value"] <= results["clean"]["value"]
        count = row["images"]
        lost = np.flatnonzero(wrong[:count])
        assert (arrays[f"{name}_votes"][lost, 0] != y[lost]).all()
        np.testing.assert_array_equal(kept[name][lost], x[lost])


def test_a_radius_in_l2_beyond_black_and_white_is_refused(tmp_path):
    settings = EvaluationSettings(epsilon=128, norm="l2", attacks=("pgd_strong",), images=12)
    with pytest.raises(UserError, match="black and white are 4 apart"):
        evaluate(noisy_linear(), *images(), settings, tmp_path / "out")


def test_a_loss_that_needs_more_classes_is_refused_before_the_work(tmp_path):
    x, _ = images()
    settings = EvaluationSettings(**{**FAST, "loss": "margin+dlr"})

    def two_classes(x):
        return tf.reshape(x, [-1, 16])[:, :2] - 1.0

    with pytest.raises(UserError, match="three classes"):
        evaluate(two_classes, x, np.zeros(20, int), settings, tmp_path / "out", outputs="logits")
    assert not (tmp_path / "out" / "state").exists()


def test_adversarial_images_that_were_not_kept_are_asked_for_in_vain(tmp_path):
    settings = EvaluationSettings(**{**BY_ITSELF, "attacks": ("noise",)})
    evaluate(noisy_linear(), *images(), settings, tmp_path / "out")
    keep = dataclasses.replace(settings, save_adversarial=True)
    with pytest.raises(UserError, match="has not kept"):
        evaluate(noisy_linear(), *images(), keep, tmp_path / "out", resume=True)


@pytest.mark.parametrize("noisy", [False, True])
def test_a_model_that_mixes_the_images_of_large_batches_alone_is_refused(noisy, tmp_path):
    def ensemble(x):
        among = x.shape[0] is not None and x.shape[0] >= 20
        return x - tf.reduce_mean(x, axis=0, keepdims=True) if among else x

    linear = noisy_linear()
    layers = linear.layers if noisy else linear.layers[1:]
    model = keras.Sequential([keras.Input((4, 4, 1)), *layers[:-2], keras.layers.Lambda(ensemble)])
    for layer in layers[-2:]:
        model.add(layer)
    asked = {**BY_ITSELF, "attacks": ("noise",), "images": 40}
    evaluate(model, *images(40), EvaluationSettings(**{**asked, "batch_size": 19}), tmp_path / "19")
    for batch in (20, None):
        settings = EvaluationSettings(**{**asked, "batch_size": batch})
        with pytest.raises(UserError, match="depends on the other images"):
            evaluate(model, *images(40), settings, tmp_path / str(batch))
        assert not (tmp_path / str(batch)).exists()


def test_a_stochastic_callable_is_not_taken_for_another(tmp_path):
    model = noisy_linear()
    settings = EvaluationSettings(**{**BY_ITSELF, "attacks": ("noise",)})
    evaluate(lambda x: model(x), *images(), settings, tmp_path)
    with pytest.raises(UserError, match="begun with one of many callables with noise of their own"):
        evaluate(lambda x: model(x) + 1.0, *images(), settings, tmp_path, resume=True)


def test_the_number_of_judging_draws_does_not_change_the_attack(tmp_path):
    found = []
    for draws in (1, 9):
        settings = EvaluationSettings(
            **{**FAST, "faithful": False, "judge_draws": draws, "attacks": ("pgd_strong",)},
            save_adversarial=True,
        )
        folder = tmp_path / str(draws)
        evaluate(noisy_linear(), *images(), settings, folder)
        with np.load(folder / "adversarial.npz") as stored:
            found.append(stored["pgd_strong"])
    np.testing.assert_array_equal(*found)


@tf.custom_gradient
def without_gradient(x):
    return tf.identity(x), lambda upstream: upstream * np.nan


def test_gradients_that_are_no_numbers_are_a_finding_and_no_crash(tmp_path):
    model = noisy_linear()
    attacks = ("pgd", "spsa", "fgsm")
    settings = EvaluationSettings(**{**WHOLE, "attacks": attacks, "epsilons": ()})
    x, y = images(400)  # so many of one class that the model is hardly better than guessing
    of_each = np.concatenate([np.flatnonzero(y == label)[:4] for label in range(3)])
    results = evaluate(
        lambda x: without_gradient(model(x)), x[of_each], y[of_each], settings, tmp_path
    )
    findings = {finding["name"]: finding for finding in results["findings"]}
    assert not findings["gradients_absent"]["passed"]
    assert results["verdict"] == "obfuscated"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": images()[0] * 255}, r"lie in \[0, 1\].*pass pixel_range=\(0, 255\)"),
        ({"images": images()[0] * np.nan}, "finite"),
        ({"images": images()[0][..., 0]}, "shape"),
        ({"images": np.zeros((20, 5, 5, 1), np.float32)}, "takes images of shape"),
        ({"labels": images()[1] + 1}, "Labels must be from 0 to 2"),
        ({"labels": images()[1] - 1}, "Labels must be from 0 to 2"),
        ({"labels": images()[1][:5]}, "as many"),
        ({"labels": images()[1] + 0.5}, r"numbers of classes\. Received: \d\.5 among"),
        ({"data": {"num_classes": 10}}, "3 classes, but the data set has 10"),
        ({"model": "runs/mnist"}, "must be a Keras model"),
        (
            {"settings": EvaluationSettings(**{**BY_ITSELF, "norm": "l2", "attacks": ("spsa",)})},
            "SPSA",
        ),
    ],
)
def test_bad_input_before_the_work_begins(change, said, tmp_path):
    x, y = images()
    arguments = {
        "model": noisy_linear(),
        "images": x,
        "labels": y,
        "settings": EvaluationSettings(**FAST),
        "output": tmp_path / "out",
    }
    with pytest.raises(UserError, match=said):
        evaluate(**{**arguments, **change})
    assert not (tmp_path / "out").exists()


def test_votes_that_memory_cannot_hold_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 10**7)
    settings = EvaluationSettings(**{**FAST, "judge_draws": 100_000})
    with pytest.raises(UserError, match=r"100,000 draws for each of 12 images.*Judge by fewer"):
        evaluate(noisy_linear(), *images(), settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_byte_images_are_scaled_and_all_used_if_there_are_too_few(tmp_path, caplog):
    x, y = images(9)
    settings = EvaluationSettings(**{**BY_ITSELF, "attacks": ("noise",)})
    x = np.round(255 * x).astype(np.uint8)
    as_bytes = evaluate(noisy_linear(), x, y, settings, tmp_path, pixel_range=(0, 1))
    assert as_bytes["clean"]["value"] > 0.5
    assert as_bytes["clean"]["images"] == 9
    assert "There are fewer images than 12 (images): all of them are used, 9." in caplog.text


SCRIPT = """
    import sys
    sys.path[:0] = {tests!r}
    from test_runner import FAST, EvaluationSettings, evaluate, images, noisy_linear
    settings = EvaluationSettings(**{{**FAST, "steps": 30, "batch_size": 1}})
    evaluate(noisy_linear(), *images(), settings, {output!r}, resume=True)
"""


@pytest.mark.slow
@pytest.mark.faults
def test_kill_9(tmp_path):
    def start(output):
        here = Path(__file__).parent
        tests = [str(here), str(here.parent)]
        code = textwrap.dedent(SCRIPT).format(tests=tests, output=str(output))
        return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)

    assert start(tmp_path / "calm").wait() == 0
    deadline = time.monotonic() + 300
    for wanted in (3, 15, 28):
        process = start(tmp_path / "killed")
        while len(list(tmp_path.glob("killed/state/*.npz"))) < wanted and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(tmp_path / "killed").wait() == 0
    calm, killed = (
        json.loads((tmp_path / name / "results.json").read_text()) for name in ("calm", "killed")
    )
    assert calm.pop("sha256") != killed.pop("sha256")  # they seal the times, too
    assert numbers(calm) == numbers(killed)
    assert not list(tmp_path.glob("killed/.*.tmp"))


def test_images_without_an_answer_count_as_wrong_wherever_they_stand(tmp_path):
    """Half of the answers are NaN, whatever the class: with attacks, and without."""
    x, y = images()
    dark = x[:, 0, 0, 0] < np.median(x[:, 0, 0, 0])
    linear = keras.Sequential(noisy_linear().layers[1:])
    linear(x)

    def model(x):
        return tf.where(x[:, 0, 0] < np.median(images()[0][:, 0, 0, 0]), np.nan, linear(x))

    settings = EvaluationSettings(
        **{**BY_ITSELF, "epsilon": 1e-4, "attacks": ("noise",), "images": 20}
    )
    results = evaluate(model, x, y, settings, tmp_path / "out", outputs="logits")
    assert dark.sum() == 10
    assert results["clean"]["value"] == results["attacks"]["noise"]["value"] == 0.5
    (finding,) = [f for f in results["findings"] if f["name"] == "answers_not_finite"]
    assert (finding["passed"], finding["value"]) == (False, 0.5)


def test_noise_that_predict_undoes_is_told_of(tmp_path):
    """The idiom of Monte Carlo dropout, which Keras 3 follows in a plain call alone."""
    inputs = keras.Input((4, 4, 1))
    noisy = keras.layers.Dropout(0.5, name="drop")(inputs, training=True)
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(noisy)))
    settings = EvaluationSettings(**{**BY_ITSELF, "attacks": ("noise",)})
    results = evaluate(model, *images(), settings, tmp_path / "out", outputs="logits")
    assert not results["model"]["stochastic"]
    (finding,) = [f for f in results["findings"] if f["name"] == "predicts_otherwise"]
    assert (finding["passed"], finding["weight"]) == (False, "note")
    assert finding["explanation"].startswith("'drop' (Dropout) called with training=True")


@keras.saving.register_keras_serializable("tests")
class Shifted(keras.Sequential):
    """Averages its answers over shifts, in `predict` alone."""

    def predict_step(self, data):
        return keras.ops.mean([self(keras.ops.roll(data[0], by, axis=2)) for by in (-1, 0, 1)], 0)


@pytest.mark.parametrize(("kind", "passed"), [(Shifted, False), (keras.Sequential, True)])
def test_a_predict_step_that_is_left_out_is_told_of(kind, passed, tmp_path):
    model = kind([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    settings = EvaluationSettings(**{**BY_ITSELF, "attacks": ("noise",)})
    results = evaluate(model, *images(), settings, tmp_path / "out", outputs="logits")
    (finding,) = [f for f in results["findings"] if f["name"] == "predict_step_left_out"]
    assert (finding["passed"], finding["weight"]) == (passed, "note")


def test_what_another_model_s_gradients_find_counts(tmp_path):
    """Behind rounding, which has no gradient, through the model without it."""
    x, y = images()
    linear = keras.Sequential(noisy_linear().layers[1:])
    linear(x)

    def rounded(x):
        return linear(tf.round(255 * x) / 255)

    settings = EvaluationSettings(**{**FAST, "attacks": ("pgd",)})
    alone = evaluate(rounded, x, y, settings, tmp_path / "alone", outputs="logits")
    results = evaluate(
        rounded, x, y, settings, tmp_path / "both", outputs="logits", transfer_from=linear
    )
    assert results["attacks"]["pgd"]["value"] == alone["attacks"]["pgd"]["value"] == 1
    assert results["effective_robustness"]["attack"] == "transfer"
    assert results["worst_case_per_image"]["value"] == results["attacks"]["transfer"]["value"] < 1


def test_images_cannot_come_from_a_model_of_other_classes(tmp_path):
    x, y = images()
    other = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)])
    settings = EvaluationSettings(**FAST)
    with pytest.raises(UserError, match="transfer_from with 4 of them, where the model has 3"):
        evaluate(noisy_linear(), x, y, settings, tmp_path / "out", transfer_from=other)


def test_attacks_towards_one_class_say_how_often_it_was_reached(tmp_path):
    x, y = images()
    settings = EvaluationSettings(**{**FAST, "attacks": ("pgd", "noise"), "target_class": 1})
    results = evaluate(noisy_linear(), x, y, settings, tmp_path / "out")
    assert results["attacks"]["pgd"]["reached"]["images"] == (y[:12] != 1).sum()
    assert (
        results["attacks"]["pgd"]["reached"]["value"]
        > results["attacks"]["noise"]["reached"]["value"]
    )
    (effort,) = [f for f in results["findings"] if f["name"] == "settings_too_weak"]
    assert "target_class=1 (attacks away from the label may leave less)" in effort["explanation"]


def test_what_another_process_had_room_for_is_gone_on_with(tmp_path, monkeypatch):
    settings = EvaluationSettings(**{**BY_ITSELF, "attacks": ("fgsm",), "batch_size": None})
    monkeypatch.setattr("pnil_tf.evaluation.target.room_for", lambda *_: Room(rows=9))
    begun = evaluate(noisy_linear(), *images(), settings, tmp_path)
    assert begun["settings"]["batch_size"] == 8
    monkeypatch.undo()
    assert evaluate(noisy_linear(), *images(), settings, tmp_path, resume=True) == begun
    (tmp_path / "state").mkdir()
    (tmp_path / "results.json").rename(tmp_path / "moved.json")
    write_record(tmp_path / "state" / "identity.json", begun["identity"])
    again = evaluate(noisy_linear(), *images(), settings, tmp_path, resume=True)
    assert again["settings"]["batch_size"] == 8
    for name in ("clean", "worst_case_per_image"):
        assert again[name] == begun[name]
