"""Gradients are held against the function: fakes are told from honest models, noise or not."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from zoo import (
    Decoy,
    RandomShift,
    Shattered,
    StraightThrough,
    behind,
    digits,
    network,
    noisy,
    trained,
)

from pnil_tf.evaluation.finding import Weight
from pnil_tf.evaluation.gradient_probe import LENGTHS, probe_gradients
from pnil_tf.evaluation.obfuscation.evidence import Evidence
from pnil_tf.evaluation.obfuscation.gradients import absent, direction
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.evaluation.store import Store
from pnil_tf.evaluation.target import as_target
from pnil_tf.evaluation.trial import Trial

IMAGES = 40


@pytest.fixture(scope="module")
def plain():
    return trained(network(seed=0), epochs=15)


@pytest.fixture(scope="module")
def other():
    """A network that was never trained."""
    return network(seed=99)


@pytest.fixture
def probed(tmp_path):
    """Measures a model's gradients."""

    def run(model, x=None, y=None, **change):
        x = digits()[0][1400 : 1400 + IMAGES] if x is None else x
        y = digits()[1][1400 : 1400 + IMAGES] if y is None else y
        target = as_target(model, x)
        settings = EvaluationSettings(
            **{"epsilon": 0.15, "images": IMAGES, "batch_size": IMAGES, "eot_samples": 4, **change}
        )
        trial = Trial(target, x, y[: len(x)], settings, Store(tmp_path / "s", {}, resume=False))
        return probe_gradients(trial, len(x)), target

    return run


@pytest.fixture
def finding(probed):
    """What the check says of a model."""

    def run(model, **change):
        gradients, target = probed(model, **change)
        evidence = Evidence(
            classes=10,
            guessed=np.zeros(IMAGES),
            epsilon=0.15,
            stochastic=target.stochastic,
            repeatable=target.repeatable,
            outputs=target.outputs,
            saturated=0.0,
            clean=np.ones(IMAGES),
            attacks={},
            effort={},
            gradients=gradients,
        )
        return direction(evidence) or absent(evidence)

    return run


def test_of_a_linear_model_the_change_is_just_the_predicted_one(probed):
    kernel = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)
    gradients, _ = probed(lambda x: tf.reshape(x, [-1, 64]) @ kernel, epsilon=0.01)
    assert gradients.along_signs.shape == gradients.along_random.shape == (IMAGES, len(LENGTHS))
    # Where the runner-up changes on the way the margin has a kink.
    assert np.median(gradients.along_signs[:, 0]) == pytest.approx(1, abs=1e-4)
    assert np.median(gradients.along_random[:, 0]) == pytest.approx(1, abs=1e-4)


HONEST = {
    "a plain network": lambda plain: plain,
    "one of large logits": lambda plain: keras.Sequential([plain, keras.layers.Rescaling(1e4)]),
    "one of probabilities": lambda plain: keras.Sequential([plain, keras.layers.Softmax()]),
    "max-pooling": lambda plain: network(pool=keras.layers.MaxPooling2D(2), seed=1),
    "a stand-in's gradient": lambda plain: behind(StraightThrough(), plain),
    "noise": lambda plain: noisy(plain),
    "noise that follows no seed": lambda plain: behind(RandomShift(), plain),
}
REST = ("one of probabilities", "max-pooling", "noise that follows no seed")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in REST else ()) for name in HONEST],
)
def test_an_honest_gradient_keeps_its_promise(name, plain, finding):
    found = finding(HONEST[name](plain))
    assert found.passed
    assert found.value > 0.85


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_is_no_lie(policy, plain, finding):
    keras.mixed_precision.set_global_policy(policy)
    half = network()
    half.set_weights(plain.get_weights())
    assert finding(half).value > 0.9


def test_saturated_units_are_no_lie(finding):
    saturated = network(activation="tanh", seed=2)
    saturated.layers[0].kernel.assign(20 * saturated.layers[0].kernel)
    assert finding(saturated).value > 0.9


FAKES = {
    "in front of it nothing": lambda model: model,
    "noise": noisy,
    "noise that follows no seed": lambda model: behind(RandomShift(), model),
}


FAST = [("in front of it nothing", -1.0), ("noise", 1.0)]


@pytest.mark.parametrize(
    ("front", "size"),
    [
        pytest.param(front, size, marks=() if (front, size) in FAST else pytest.mark.slow)
        for front in FAKES
        for size in (1.0, -1.0)
    ],
)
def test_the_gradient_of_another_function_is_found_out(front, size, plain, other, finding):
    decoy = keras.Sequential([keras.Input((8, 8, 1)), Decoy(plain, other, size)])
    found = finding(FAKES[front](decoy))
    assert (found.name, found.passed, found.weight) == ("gradients_wrong", False, Weight.HIDES)
    assert abs(found.value) < 0.4


@pytest.mark.parametrize(
    "front", [lambda model: model, pytest.param(noisy, marks=pytest.mark.slow)]
)
def test_slopes_of_a_ripple_are_not_those_of_the_function(front, plain, finding):
    found = finding(front(behind(Shattered(), plain)))
    assert (found.name, found.passed) == ("gradients_wrong", False)


def linear(weights):
    """Two classes, of which the second has these weights."""
    dense = keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), dense])
    dense.set_weights([np.stack([0 * weights, weights], 1), np.zeros(2)])
    return model


def test_a_gradient_that_is_right_along_its_signs_alone_is_found_out_behind_any_noise(finding):
    """Right in every sign and in the sum of all sizes; in closed form 2 / (1 + 4.5) elsewhere."""
    signs = np.sign(np.random.default_rng(0).normal(size=64))
    sizes = np.repeat([16.0, 1.0], [4, 60])
    mean, square = sizes.mean(), (sizes**2).mean()
    for weights, kept in ((sizes, 1.0), (mean, 2 / (1 + square / mean**2))):
        decoy = Decoy(linear(signs * sizes), linear(signs * weights))
        model = behind(RandomShift(0.05), keras.Sequential([keras.Input((8, 8, 1)), decoy]))
        found = finding(model, y=np.zeros(IMAGES, int))
        assert found.value == pytest.approx(kept, abs=0.1)
        assert found.passed == (kept == 1.0)
