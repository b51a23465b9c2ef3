"""A model that remembers what it was shown is refused, and one that counts or draws is not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf.errors import UserError
from pnil_tf.evaluation.target import as_target

X = np.random.default_rng(0).random((16, 4, 4, 1), np.float32)


class Remembers(keras.layers.Layer):
    """Answers images near to one of the last batch as it answered that one."""

    def __init__(self, of):
        super().__init__()
        self.of = of

    def build(self, shape):
        kind = {"trainable": False, "initializer": "zeros"}
        self.seen = self.add_weight(shape=(1, 16), name="seen", **kind)
        self.answers = self.add_weight(shape=(1, 3), name="answers", **kind)
        self.calls = self.add_weight(shape=(), name="calls", dtype="int32", **kind)
        self.dense = keras.layers.Dense(3)
        self.dense.build((None, 16))

    def call(self, x):
        self.calls.assign_add(1)
        answers = self.dense(x)
        if self.of == "images":
            near = keras.ops.max(keras.ops.abs(x - self.seen), axis=1, keepdims=True) < 0.1
            answers = keras.ops.where(near, self.answers, answers)
            self.seen.assign(x[-1:])
            self.answers.assign(answers[-1:])
        return answers


def model(layer):
    return keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), layer])


def test_a_layer_that_keeps_images_is_refused():
    with pytest.raises(UserError, match=r"variables of its own when it answers.*seen"):
        as_target(model(Remembers("images")), X, pixel_range=(0, 1), outputs="logits")


def test_a_callable_that_keeps_images_is_refused():
    kept, dense = tf.Variable(tf.zeros((1, 16)), name="kept"), keras.layers.Dense(3)
    dense.build((None, 16))

    def remembers(x):
        flat = tf.reshape(x, (-1, 16))
        kept.assign(flat[-1:])
        return dense(flat)

    with pytest.raises(UserError, match=r"variables of its own when it answers.*kept"):
        as_target(remembers, X, pixel_range=(0, 1), outputs="logits")


@pytest.mark.parametrize(
    "layer",
    [lambda: Remembers("calls"), lambda: keras.Sequential([keras.layers.GaussianNoise(1.0)])],
)
def test_what_counts_or_rests_is_not(layer):
    layers = [layer(), keras.layers.Dense(3)]
    as_target(model(keras.Sequential(layers)), X, pixel_range=(0, 1), outputs="logits")


class Noise(keras.layers.Layer):
    def __init__(self, generator):
        super().__init__()
        self.generator = generator

    def call(self, x):
        if isinstance(self.generator, tf.random.Generator):
            return x + self.generator.normal(tf.shape(x))
        return x + keras.random.normal(tf.shape(x), seed=self.generator)


@pytest.mark.parametrize(
    "generator", [lambda: keras.random.SeedGenerator(3), lambda: tf.random.Generator.from_seed(3)]
)
def test_noise_is_not(generator):
    layers = [Noise(generator()), keras.layers.Dense(3)]
    target = as_target(model(keras.Sequential(layers)), X, pixel_range=(0, 1), outputs="logits")
    assert target.stochastic
