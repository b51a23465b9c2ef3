"""Classifiers in closed form, and a judge, for the tests of the attacks."""

import keras
import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.layers import PNILLayer

SHAPE = (4, 4, 1)


class NoisyLinear:
    """Two logits, (0, w . x'), where x' has passed a PNIL with random weights."""

    def __init__(self, seed=0, bias=-1.0):
        generator = np.random.default_rng(seed)
        self.w = generator.normal(size=SHAPE).astype(np.float32)
        self.layer = PNILLayer(bias_initializer=keras.initializers.Constant(bias))
        self.layer.build((None, *SHAPE))
        self.layer.kernel.assign(generator.normal(size=SHAPE))

    def __call__(self, x):
        value = tf.reduce_sum(self.layer(x) * self.w, axis=[1, 2, 3])
        return tf.stack([tf.zeros_like(value), value], axis=1)

    def gradient_spread(self, x):
        """Standard deviation of one draw's d(w . x')/dx: |w W sigma| / 2 in each pixel."""
        return np.abs(self.w * self.layer.kernel.numpy() * self.layer.sigma(x).numpy()) / 2


def linear(w):
    """Two logits, (0, w . x)."""

    def predict(x):
        value = tf.reduce_sum(x * w, axis=[1, 2, 3])
        return tf.stack([tf.zeros_like(value), value], axis=1)

    return predict


def nan_beyond(w, limit):
    """Two logits, (100, w . x), both NaN where w . x is above the limit of each image."""

    def predict(x):
        logits = linear(w)(x)
        broken = tf.where(logits[:, 1:] > limit, np.nan, 1.0)
        return broken * (logits + tf.constant([100.0, 0.0]))

    return predict


def second_logit(labels, logits):
    """A loss that is linear in the logits."""
    del labels
    return logits[:, 1]


def make_judge(predict, draws):
    """As the evaluation's: the fraction of fresh draws that predict the label."""

    @tf.function(autograph=False, reduce_retracing=True)
    def right(x, y, seed):
        with rng.noise_scope(seed):
            logits = predict(x)
        finite = tf.reduce_all(tf.math.is_finite(logits), axis=-1)
        return tf.cast((tf.argmax(logits, -1, tf.int32) == y) & finite, tf.float32)

    def judge(x, y, seed):
        return np.mean([right(x, y, rng.fold(seed, i)) for i in range(draws)], axis=0)

    return judge
