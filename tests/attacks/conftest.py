"""Images and a trained model for the tests of the attacks."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from classifiers import SHAPE

from pnil_tf import rng
from pnil_tf.attacks.eot import cross_entropy
from pnil_tf.layers import PNILLayer


@pytest.fixture
def images():
    """12 images float32 (4, 4, 1), away from 0 and 1 by at least 0.3."""
    return np.random.default_rng(3).uniform(0.3, 0.7, (12, *SHAPE)).astype(np.float32)


@pytest.fixture
def labels():
    return np.zeros(12, np.int32)


@pytest.fixture(scope="session")
def trained(blobs):
    """A small convolutional PNIL model, trained for a few seconds on `blobs`."""
    keras.utils.set_random_seed(5)
    x, y = blobs
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            PNILLayer(bias_initializer=keras.initializers.Constant(-3.0)),
            keras.layers.Conv2D(8, 3, 2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(4),
        ]
    )
    optimizer = keras.optimizers.Adam(0.01)
    weights = model.trainable_variables
    optimizer.build(weights)

    @tf.function(autograph=False)
    def step(seed):
        with tf.GradientTape() as tape, rng.noise_scope(seed):
            loss = tf.reduce_mean(cross_entropy(y, model(x, training=True)))
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))

    for i in range(60):
        step(rng.make_seed(i))
    return model
