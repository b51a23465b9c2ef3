"""Models of which the truth is known: each must get the verdict that it deserves."""

import dataclasses
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from zoo import (
    EPSILON,
    Decoy,
    DecoyForSome,
    Quantised,
    RandomShift,
    Shattered,
    Stairs,
    behind,
    digits,
    network,
    noisy,
    trained,
)

from pnil_tf.evaluation import planted
from pnil_tf.evaluation.runner import evaluate
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.layers import PNILLayer

ATTACKS = ("pgd", "pgd_strong", "spsa", "fgsm", "noise")
SETTINGS = EvaluationSettings(
    epsilon=EPSILON,
    attacks=ATTACKS,
    images=120,
    batch_size=120,
    steps=20,
    eot_samples=10,
    judge_draws=20,
    spsa_images=60,
    spsa_samples=128,
    spsa_steps=30,
    check_images=60,
    check_draws=4,
    epsilons=(EPSILON / 2, EPSILON),
)


@pytest.fixture(scope="module")
def plain():
    keras.utils.set_random_seed(0)
    return trained(network())


@pytest.fixture
def evaluated(tmp_path):
    """Evaluates a model; gives its results and the names of the failed findings."""

    def run(model, **change):
        x, y = digits()
        settings = EvaluationSettings(**{**vars(SETTINGS), **change})
        results = evaluate(model, x[1400:], y[1400:], settings, tmp_path / "out")
        failed = {f["name"] for f in results["findings"] if not f["passed"]}
        assert results["clean"]["value"] > 0.7, "the planted model is no classifier"
        return results, failed

    return run


@pytest.mark.slow
def test_plain_model(plain, evaluated):
    results, failed = evaluated(plain, attacks=("auto",))
    assert failed == set()
    assert results["verdict"] == "credible"
    assert results["effective_robustness"]["value"] < 0.4


@pytest.mark.slow
def test_quantisation_in_front(plain, evaluated):
    results, failed = evaluated(behind(Quantised(), plain))
    assert results["verdict"] == "obfuscated"
    assert "gradients_absent" in failed
    assert "at best" in results["verdict_reason"]


@pytest.mark.slow
def test_stairs_with_a_slope_beside_them(plain, evaluated):
    results, failed = evaluated(
        FAKES["stairs"](plain), attacks=("pgd_strong", "square", "fgsm", "noise")
    )
    assert results["verdict"] == "obfuscated"
    assert "answers_jump" in failed
    assert {"gradients_absent", "gradients_wrong"}.isdisjoint(failed)


@pytest.mark.slow
def test_extreme_logit_scale(plain, evaluated):
    scaled = keras.Sequential([plain, keras.layers.Rescaling(1e4)])
    results, failed = evaluated(scaled)
    assert results["verdict"] == "obfuscated"
    assert "loss_saturated" in failed
    # A plain cross-entropy finds nothing; ours finds what it finds in the plain model.
    assert results["attacks"]["pgd"]["value"] < 0.5
    assert results["effective_robustness"]["value"] < 0.4


@pytest.mark.slow
def test_pgd_trained_model(evaluated):
    model = trained(network(width=128), "pgd-7", 40)
    results, failed = evaluated(model, attacks=("auto",))
    assert failed == set()
    assert results["verdict"] == "credible"
    assert results["effective_robustness"]["low"] > 0.4


def collapsed():
    """One step leaves it 0.7, many nothing; after half the epochs one may leave just half."""
    return trained(network(width=256), "fgsm", 80, rate=5e-3, epsilon=0.3)


@pytest.mark.slow
def test_fgsm_trained_model_that_collapsed(evaluated):
    results, failed = evaluated(collapsed(), epsilon=0.3, epsilons=(0.15, 0.3))
    assert results["effective_robustness"]["value"] < 0.1
    assert "collapsed" in failed
    assert results["verdict"] == "obfuscated"
    assert "not robust" in results["verdict_reason"]


@pytest.mark.slow
def test_random_noise_alone(plain, evaluated):
    noisy = behind(RandomShift(), plain)
    results, failed = evaluated(noisy)
    # Noise is no defence: with EOT the attack breaks the model, and that figure is believable.
    assert results["effective_robustness"]["value"] < 0.45
    # Square, which asks every query of several draws, would take a minute.
    assert failed == {"noise_not_repeatable", "noise_not_held", "attacks_missing"}
    assert results["verdict"] == "doubtful"


@pytest.mark.slow
def test_pnil_attacked_without_eot(evaluated):
    pnil = PNILLayer(bias_initializer=keras.initializers.Constant(2 * np.log(0.2)))
    model = trained(network(pnil), "rfgsm", 30)
    results, failed = evaluated(model, eot_samples=1)
    assert results["verdict"] == "doubtful"
    # With its draws known this model is left with less: a note, which decides no verdict.
    assert failed == {"settings_too_weak", "rests_on_unknown_draws", "attacks_missing"}
    assert "too weak for a verdict: eot_samples=1 (at least 10)" in results["verdict_reason"]
    cells = results["noise_cells"]
    assert cells["clean_without"]["value"] > 0.9


def test_token_settings_buy_no_verdict(plain, evaluated):
    """By the floors alone: no attack is missing, none beats another, and the images are enough."""
    results, _ = evaluated(
        plain,
        epsilon=0.1,
        attacks=("pgd", "pgd_strong", "square", "noise"),
        steps=5,
        restarts=1,
        loss="margin",
        check_images=1,
        epsilons=(),
    )
    failed = {f["name"] for f in results["findings"] if not f["passed"] and f["weight"] != "note"}
    assert failed == {"settings_too_weak"}
    assert results["verdict_reason"].startswith(
        "doubtful: settings too weak for a verdict: pgd steps=5 (at least 20), check_images=1 "
        "(at least 50); robust accuracy "
    )


@pytest.mark.parametrize("answer", [0, 1])
def test_a_constant_answer_is_no_classifier(answer, tmp_path):
    """On labels of which 95 % are 0."""
    x, _ = digits()
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), network_of(answer)])
    labels = (np.arange(100) % 20 == 19).astype(int)
    settings = dataclasses.replace(SETTINGS, checks=False, epsilons=(), attacks=("pgd", "noise"))
    results = evaluate(model, x[:100], labels, settings, tmp_path)
    assert results["guessing"] == {"value": 0.95, "class": 0}
    assert results["clean"]["value"] == (0.05 if answer else 0.95)
    assert results["verdict"] == "doubtful"
    assert "no classifier" in results["verdict_reason"]
    assert "robust accuracy" not in results["verdict_reason"]


def network_of(answer):
    """A layer that always gives one of two classes."""
    bias = keras.initializers.Constant([5.0 - 10 * answer, 0.0])
    return keras.layers.Dense(2, kernel_initializer="zeros", bias_initializer=bias)


FAKES = {
    "rounded": lambda plain: behind(Quantised(), plain),
    "decoy": lambda plain: keras.Sequential(
        [keras.Input((8, 8, 1)), Decoy(plain, network(seed=99))]
    ),
    "rippled": lambda plain: behind(Shattered(), plain),
    "of huge logits": lambda plain: keras.Sequential([plain, keras.layers.Rescaling(1e4)]),
    "stairs": lambda plain: keras.Sequential([keras.Input((8, 8, 1)), Stairs(plain)]),
}
UNSEEDED = "behind noise that follows no seed"
FRONTS = {
    "alone": lambda model: model,
    "behind noise": noisy,
    UNSEEDED: lambda model: behind(RandomShift(), model),
}


@pytest.mark.slow
@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("fake", FAKES)
def test_every_fake_is_flagged_with_noise_as_without(fake, front, plain, evaluated):
    results, failed = evaluated(FRONTS[front](FAKES[fake](plain)))
    assert results["verdict"] == "obfuscated", failed


@pytest.mark.slow
@pytest.mark.parametrize(("height", "pitch"), [(0.02, 200.0), (0.01, 400.0)])
def test_a_ripple_whose_slope_is_true_over_the_shortest_moves_is_flagged(
    height, pitch, plain, evaluated
):
    results, failed = evaluated(behind(Shattered(height, pitch), plain), attacks=("auto",))
    assert "gradients_wrong" not in failed
    assert "gradients_short_sighted" in failed
    assert results["verdict"] == "obfuscated", failed


@pytest.mark.slow
def test_the_decoy_is_found_out_on_a_small_budget(plain, evaluated):
    """The settings with which 64.9 % once stood, of a model that is left with nothing."""
    decoy = keras.Sequential([keras.Input((8, 8, 1)), Decoy(plain, network(seed=99))])
    _, failed = evaluated(noisy(decoy), images=60, spsa_images=20, spsa_samples=256, spsa_steps=50)
    assert {"gradients_wrong", "planted_not_found", "settings_too_weak"} <= failed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sigma", "norm"),
    [(0, {}), (0, {"norm": "l2", "epsilon": 1.0, "epsilons": (0.5, 1.0)}), (0.1, {})],
)
def test_a_decoy_for_some_classes_alone_is_found_out(sigma, norm, plain, evaluated):
    fake = keras.Sequential([keras.Input((8, 8, 1)), DecoyForSome(plain, network(seed=99))])
    results, failed = evaluated(noisy(fake, sigma) if sigma else fake, attacks=("auto",), **norm)
    assert "gradients_wrong_for_some" in failed
    assert results["verdict"] != "credible"


def test_of_large_images_the_nearest_is_found_by_parts(monkeypatch):
    generator = np.random.default_rng(0)
    centres = generator.random((7, 4, 4, 1)).astype(np.float32)
    weights = generator.normal(size=(7, 16)).astype(np.float32)
    bias = generator.normal(size=7).astype(np.float32)
    moved = np.concatenate([centres, centres[::-1] + 0.01])
    for norm in ("linf", "l2"):
        target = SimpleNamespace(features=lambda x: tf.reshape(x, [-1, 16]))
        trial = SimpleNamespace(target=target, settings=SimpleNamespace(norm=norm))
        scores = []
        for most in (2**18, 33, 1):
            monkeypatch.setattr(planted, "_DIFFERENCES", most)
            predict = planted._read_out(trial, centres, weights, bias)
            scores.append(predict(tf.constant(moved)).numpy()[:, 1])
        own = [*range(7), *range(6, -1, -1)]
        expected = (moved.reshape(14, 16) * weights[own]).sum(axis=1) + bias[own]
        for score in scores:
            np.testing.assert_allclose(score, expected, rtol=1e-5, atol=1e-5)
