"""Models of which the truth is known: each must get the verdict that it deserves.

Small networks on scikit-learn's 8x8 digits, which are real handwriting and quick.
"""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from pnil_tf.evaluation.runner import evaluate
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.layers import PNILLayer
from pnil_tf.training.model import AdversarialModel

EPSILON = 0.15
SETTINGS = EvaluationSettings(
    epsilon=EPSILON,
    images=120,
    batch_size=120,
    steps=15,
    eot_samples=10,
    judge_draws=20,
    spsa_images=60,
    spsa_samples=128,
    spsa_steps=30,
    check_images=60,
    check_draws=4,
    epsilons=(EPSILON / 2, EPSILON),
)


@functools.cache
def digits():
    x, y = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(x))
    x = (x[order] / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    return x, y[order].astype(np.int32)


def network(*first, width=64):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            *first,
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(width, activation="relu"),
            layers.Dense(10),
        ]
    )


def trained(classifier, attack, epochs, rate=2e-3, epsilon=EPSILON):
    x, y = digits()
    model = AdversarialModel(
        classifier, attack, None if attack == "none" else epsilon, validation_attack="none"
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss)
    model.fit(x[:1400], y[:1400], batch_size=100, epochs=epochs, verbose=0)
    return classifier


@pytest.fixture(scope="module")
def plain():
    keras.utils.set_random_seed(0)
    return trained(network(), "none", 30)


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


@keras.saving.register_keras_serializable(package="tests")
class Quantised(keras.layers.Layer):
    def call(self, x):
        return tf.round(3 * x) / 3


@keras.saving.register_keras_serializable(package="tests")
class RandomShift(keras.layers.Layer):
    def call(self, x):
        return x + 0.3 * tf.random.normal(tf.shape(x))


def test_plain_model(plain, evaluated):
    results, failed = evaluated(plain)
    assert failed == set()
    assert results["verdict"] == "credible"
    assert results["effective_robustness"]["value"] < 0.4


def test_quantisation_in_front(plain, evaluated):
    results, failed = evaluated(keras.Sequential([keras.Input((8, 8, 1)), Quantised(), plain]))
    assert results["verdict"] == "obfuscated"
    assert "gradients_absent" in failed
    assert "at best" in results["verdict_reason"]


def test_extreme_logit_scale(plain, evaluated):
    scaled = keras.Sequential([plain, keras.layers.Rescaling(1e4)])
    results, failed = evaluated(scaled)
    assert results["verdict"] == "obfuscated"
    assert "loss_saturated" in failed
    # Cross-entropy finds nothing, the margin loss what it finds in the plain model.
    assert results["attacks"]["pgd"]["value"] > 0.8
    assert results["effective_robustness"]["value"] < 0.4


def test_pgd_trained_model(evaluated):
    model = trained(network(width=128), "pgd-7", 40)
    results, failed = evaluated(model)
    assert failed == set()
    assert results["verdict"] == "credible"
    assert results["effective_robustness"]["low"] > 0.4


def test_fgsm_trained_model_that_collapsed(evaluated):
    model = trained(network(width=256), "fgsm", 40, rate=5e-3, epsilon=0.3)
    results, failed = evaluated(model, epsilon=0.3, epsilons=(0.15, 0.3))
    assert results["effective_robustness"]["value"] < 0.1
    assert "collapsed" in failed
    assert results["verdict"] == "obfuscated"
    assert "not robust" in results["verdict_reason"]


def test_random_noise_alone(plain, evaluated):
    noisy = keras.Sequential([keras.Input((8, 8, 1)), RandomShift(), plain])
    results, failed = evaluated(noisy)
    # Noise is no defence: with EOT the attack breaks the model, and that figure is believable.
    assert results["effective_robustness"]["value"] < 0.45
    assert failed == {"noise_not_repeatable"}
    assert results["verdict"] == "credible"


def test_pnil_attacked_without_eot(evaluated):
    pnil = PNILLayer(bias_initializer=keras.initializers.Constant(2 * np.log(0.2)))
    model = trained(network(pnil), "rfgsm", 30)
    results, failed = evaluated(model, eot_samples=1)
    assert results["verdict"] == "doubtful"
    assert failed == {"eot_too_few_draws"}
    assert "over up to 1 draw" in results["verdict_reason"]
    cells = results["noise_cells"]
    assert cells["clean_without"]["value"] > 0.9
