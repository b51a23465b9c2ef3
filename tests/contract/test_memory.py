"""A model that keeps what it is shown is refused; one that counts, or draws, is not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf.contract.classifier import classifier_of
from pnil_tf.contract.memory import check_remembers_nothing
from pnil_tf.contract.trace import traced
from pnil_tf.errors import UserError
from pnil_tf.evaluation.target import as_target

X = np.random.default_rng(0).random((16, 4, 4, 1), np.float32)


def look(*layers):
    flat = [keras.Input((4, 4, 1)), keras.layers.Flatten()]
    model = keras.Sequential([*flat, *layers, keras.layers.Dense(3)])
    return as_target(model, X, pixel_range=(0, 1), outputs="logits")


class Remembers(keras.layers.Layer):
    """Takes images near to the last one of the batch before for that one."""

    def __init__(self, write):
        super().__init__()
        self.write = write

    def build(self, shape):
        self.seen = self.add_weight(
            shape=(1, 16), name="seen", trainable=False, initializer="zeros"
        )

    def call(self, x):
        near = keras.ops.max(keras.ops.abs(x - self.seen), axis=1, keepdims=True) < 0.1
        answers = keras.ops.where(near, self.seen, x)
        self.write(self.seen, x[-1:])
        return answers


def descend(variable, value):
    handle = variable.value.handle
    tf.raw_ops.ResourceApplyGradientDescent(var=handle, alpha=1.0, delta=variable.value - value)


@pytest.mark.parametrize("write", [lambda variable, value: variable.assign(value), descend])
def test_a_layer_that_keeps_images_is_refused(write):
    with pytest.raises(UserError, match=r"keeps what it is shown .*seen"):
        look(Remembers(write))


class Brightness(keras.layers.Layer):
    """Divides by the mean of the batch before: a single number."""

    def build(self, shape):
        self.mean = self.add_weight(shape=(), name="mean", trainable=False, initializer="ones")

    def call(self, x):
        answers = x / self.mean
        self.mean.assign(keras.ops.mean(x))
        return answers


def test_a_layer_that_keeps_a_number_is_refused():
    model = keras.Sequential([keras.Input((4, 4, 1)), Brightness()])
    model(X)
    found = classifier_of(lambda x: model(x)[:, 0, :3, 0], X, pixel_range=(0, 1), outputs="logits")
    with pytest.raises(UserError, match=r"keeps what it is shown .*mean"):
        check_remembers_nothing(found, traced(found.predict, (4, 4, 1)), tf.constant(X))


def test_a_callable_that_keeps_images_is_refused():
    kept, dense = tf.Variable(tf.zeros((1, 16)), name="kept"), keras.layers.Dense(3)
    dense.build((None, 16))

    def remembers(x):
        flat = tf.reshape(x, (-1, 16))
        kept.assign(flat[-1:])
        return dense(flat)

    with pytest.raises(UserError, match=r"keeps what it is shown .*kept"):
        as_target(remembers, X, pixel_range=(0, 1), outputs="logits")


class Counts(keras.layers.Layer):
    def build(self, shape):
        self.calls = self.add_weight(shape=(10,), trainable=False, initializer="zeros")
        self.names = tf.Variable(["cat", "dog"], trainable=False)

    def call(self, x):
        self.calls.assign_add(keras.ops.ones(10))
        return tf.where(self.names[0] == "cat", x, 0.0)


class Noise(keras.layers.Layer):
    def __init__(self, generator):
        super().__init__()
        self.generator = generator

    def call(self, x):
        if isinstance(self.generator, tf.random.Generator):
            return x + self.generator.normal(tf.shape(x))
        return x + keras.random.normal(tf.shape(x), seed=self.generator)


@pytest.mark.parametrize(
    ("layer", "stochastic"),
    [
        (Counts, False),
        (lambda: keras.layers.GaussianNoise(1.0), False),
        (lambda: Noise(keras.random.SeedGenerator(3)), True),
        (lambda: Noise(tf.random.Generator.from_seed(3)), True),
    ],
)
def test_what_counts_rests_or_draws_is_not(layer, stochastic):
    assert look(layer()).stochastic == stochastic
