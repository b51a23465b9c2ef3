"""Noise of Keras' own layers: held at one draw, and switched off."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.contract.held_noise import drawing_still, silent_layers
from pnil_tf.evaluation.target import as_target
from pnil_tf.layers import PNILLayer

X = np.random.default_rng(0).random((10, 4, 4, 1)).astype(np.float32)
layers = keras.layers


class Always(layers.GaussianNoise):
    """Noise at inference, as Monte Carlo dropout has it."""

    def call(self, inputs):
        return super().call(inputs, training=True)


class Own(layers.Layer):
    """A user's noise by a `SeedGenerator`, which heeds `training`, or does not."""

    def __init__(self, heeds=False, keeps_statistics=False, **options):
        super().__init__(**options)
        self.generator = keras.random.SeedGenerator(0)
        self.heeds, self.inner = heeds, layers.BatchNormalization() if keeps_statistics else None

    def call(self, x, training=False):
        if self.heeds and not training:
            return x
        return x + 0.3 * keras.random.normal(keras.ops.shape(x), seed=self.generator)


class Foreign(layers.Layer):
    def call(self, x):
        return x + 0.3 * tf.random.normal(tf.shape(x))


class Telling(layers.Layer):
    """Calls a layer with `training=True`, always."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return self.inner(x, training=True)


def linear(*first):
    """A linear model behind layers that are told `training=True`, if they ask."""
    asks = (layers.GaussianNoise, layers.Dropout, layers.RandomFlip, Own)
    front = [Telling(layer) if isinstance(layer, asks) else layer for layer in first]
    model = keras.Sequential([keras.Input((4, 4, 1)), *front, layers.Flatten(), layers.Dense(3)])
    model.layers[-1].kernel.assign(np.random.default_rng(1).normal(size=(16, 3)))
    return model


def answers_without_noise(model, x):
    return x.reshape(len(x), 16) @ model.layers[-1].kernel.numpy() + model.layers[-1].bias.numpy()


QUIET = {
    "a stock layer told training=True": lambda: [layers.GaussianNoise(0.3)],
    "dropout told training=True": lambda: [layers.Dropout(0.5)],
    "a layer derived from a stock one": lambda: [Always(0.3)],
    "a user's layer that heeds training": lambda: [Own(heeds=True)],
    "an augmentation": lambda: [layers.RandomFlip()],
    "PNIL beside a stock layer": lambda: [PNILLayer(), layers.GaussianNoise(0.3)],
}


@pytest.mark.parametrize("kind", QUIET)
def test_noise_of_keras_layers_is_held_and_switched_off(kind):
    model = linear(*QUIET[kind]())
    target = as_target(model, X)
    assert target.stochastic
    assert not target.noise_is_ours
    assert (target.held, target.silent, target.loud) == (True, True, ())
    free = tf.function(target.noise_free())(tf.constant(X)).numpy()
    np.testing.assert_allclose(free, answers_without_noise(model, X), rtol=1e-4, atol=1e-4)
    frozen = tf.function(target.frozen(5))
    whole = frozen(tf.constant(X)).numpy()
    np.testing.assert_allclose(frozen(tf.constant(X[7:9])), whole[7:9], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(frozen(tf.constant(X[::-1])), whole[::-1], rtol=1e-4, atol=1e-4)
    if kind not in ("an augmentation", "dropout told training=True"):
        # One draw for all images: what it adds to the logits is the same.
        added = whole - free
        if kind != "PNIL beside a stock layer":  # whose noise follows the image
            np.testing.assert_allclose(added, added[:1].repeat(10, axis=0), atol=1e-3)
        assert np.abs(tf.function(target.frozen(6))(tf.constant(X)) - whole).max() > 0.01
    # Outside, the model is as it was.
    assert np.abs(model(X) - model(X)).max() > 0.001


@pytest.mark.parametrize("own", [Own(), Own(heeds=True, keeps_statistics=True)])
def test_noise_that_cannot_be_switched_off_is_held_and_its_layer_named(own):
    if own.inner is not None:
        own.inner.build((None, 4, 4, 1))
    target = as_target(linear(own), X)
    assert (target.held, target.silent) == (True, False)
    assert target.loud == (f"{own.name!r} (Own)",)


@pytest.mark.parametrize("more", [[], [layers.GaussianNoise(0.3)]])
def test_foreign_noise_is_neither_held_nor_switched_off(more):
    target = as_target(linear(*more, Foreign()), X)
    assert target.stochastic
    assert (target.held, target.silent, target.loud) == (False, False, ())


def test_a_layer_of_another_model_keeps_its_noise_meanwhile():
    ours, other = linear(layers.GaussianNoise(0.3)), linear(layers.GaussianNoise(0.3))
    stock = layers.GaussianNoise.call
    with silent_layers(ours):
        np.testing.assert_array_equal(ours(X), ours(X))
        assert np.abs(other(X) - other(X)).max() > 0.01
        with silent_layers(ours):
            np.testing.assert_array_equal(ours(X), ours(X))
        np.testing.assert_array_equal(ours(X), ours(X))
    assert layers.GaussianNoise.call is stock
    assert not any("call" in layer.__dict__ for layer in (ours.layers[0], ours.layers[0].inner))
    assert drawing_still(ours, lambda: ours(X)) == []


def test_a_callable_has_no_layers_to_switch_off():
    with silent_layers(lambda x: x), rng.noise_off():
        pass
    assert drawing_still(lambda x: x, lambda: None) == []
