"""Models of which the truth is known, honest ones and fakes, on scikit-learn's 8x8 digits.

The digits are real handwriting, and small networks learn them in seconds.
"""

import functools
import types

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

from pnil_tf.evaluation.room import UNBOUNDED
from pnil_tf.layers import PNILLayer
from pnil_tf.training.model import AdversarialModel

EPSILON = 0.15
SHAPE = (8, 8, 1)

layers = keras.layers


def bare_target(stochastic=False, classes=10):
    """What a plan needs to know of a classifier."""
    return types.SimpleNamespace(
        stochastic=stochastic, num_classes=classes, noise_is_ours=False, room=UNBOUNDED
    )


@functools.cache
def digits():
    x, y = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(x))
    x = (x[order] / 16).astype(np.float32).reshape(-1, *SHAPE)
    return x, y[order].astype(np.int32)


def network(*first, width=64, activation="relu", pool=None, seed=None):
    """A small CNN; `seed` decides its start."""
    if seed is not None:
        keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            *first,
            layers.Conv2D(16, 3, padding="same", activation=activation),
            *([pool] if pool else []),
            layers.Flatten(),
            layers.Dense(width, activation=activation),
            layers.Dense(10),
        ]
    )


def trained(classifier, attack="none", epochs=30, rate=2e-3, epsilon=EPSILON):
    x, y = digits()
    model = AdversarialModel(
        classifier, attack, None if attack == "none" else epsilon, validation_attack="none"
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss)
    model.fit(x[:1400], y[:1400], batch_size=100, epochs=epochs, verbose=0)
    return classifier


def fixed_noise(sigma):
    """A noise layer that adds normal noise of one size, whatever the image."""
    start = keras.initializers.Constant(2 * np.log(sigma))
    return PNILLayer(bias_initializer=start, trainable=False)


def noisy(model, sigma=0.3):
    """The model behind fixed noise that follows the evaluation's seed."""
    return keras.Sequential([keras.Input(SHAPE), fixed_noise(sigma), model])


def behind(layer, model):
    return keras.Sequential([keras.Input(SHAPE), layer, model])


def decoy(honest, other, size=1.0):
    """Answers as `honest`; its gradient is `size` times that of `other`."""

    @tf.custom_gradient
    def logits(x):
        def gradient(upstream, variables=()):
            with tf.GradientTape() as tape:
                tape.watch(x)
                answer = other(x, training=False)
            slope = size * tape.gradient(answer, x, output_gradients=upstream)
            return (slope, [None] * len(variables)) if variables else slope

        return honest(x, training=False), gradient

    return logits


@keras.saving.register_keras_serializable(package=__name__)
class Decoy(keras.layers.Layer):
    """`decoy` as a layer, so that noise can stand in front of it."""

    def __init__(self, honest, other, size=1.0, **options):
        super().__init__(**options)
        self.honest, self.other, self.size = honest, other, size

    def call(self, x):
        return decoy(self.honest, self.other, self.size)(x)


@keras.saving.register_keras_serializable(package=__name__)
class DecoyForSome(Decoy):
    """A decoy for the images that are taken for a zero or a one; honest for the others."""

    def call(self, x):
        answer = self.honest(x, training=False)
        some = tf.reduce_max(answer[:, :2], axis=1) >= tf.reduce_max(answer, axis=1)
        return tf.where(some[:, tf.newaxis], super().call(x), answer)


@keras.saving.register_keras_serializable(package=__name__)
class Quantised(keras.layers.Layer):
    def call(self, x):
        return tf.round(3 * x) / 3


@keras.saving.register_keras_serializable(package=__name__)
class StraightThrough(keras.layers.Layer):
    """Rounds, and lets the gradient through as if it had not: what BPDA would do."""

    def call(self, x):
        return x + tf.stop_gradient(tf.round(7 * x) / 7 - x)


@keras.saving.register_keras_serializable(package=__name__)
class Shattered(keras.layers.Layer):
    """A ripple too small to see, with slopes that drown the network's own.

    They hold over moves of much less than `1 / pitch`.
    """

    def __init__(self, height=0.01, pitch=3000.0, **options):
        super().__init__(**options)
        self.height, self.pitch = height, pitch

    def call(self, x):
        return x + self.height * tf.sin(self.pitch * x)


@keras.saving.register_keras_serializable(package=__name__)
class RandomShift(keras.layers.Layer):
    """Noise that follows no seed."""

    def __init__(self, sigma=0.3, **options):
        super().__init__(**options)
        self.sigma = sigma

    def call(self, x):
        return x + self.sigma * tf.random.normal(tf.shape(x))


@keras.saving.register_keras_serializable(package=__name__)
class Stairs(keras.layers.Layer):
    """The class that a network answers, in constant steps, and a slope of two rows of pixels.

    The slope is the function's own, and so is its gradient: only they lead nowhere.
    """

    def __init__(self, honest, **options):
        super().__init__(**options)
        self.honest = honest

    def call(self, x):
        step = tf.one_hot(tf.argmax(self.honest(x), axis=1), 10)
        rows = tf.reduce_mean(x[:, :2, :, 0], axis=(1, 2))[:, tf.newaxis]
        broken = tf.nn.relu(rows - 0.9)  # so that an unbounded attack works
        return 5.0 * step * (1.0 - 20.0 * broken) + 0.3 * rows * tf.reverse(step, [-1])
