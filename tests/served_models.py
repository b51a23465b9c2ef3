"""Small classifiers of 8 x 8 images in 4 classes, and ways to ask exported ones."""

import math

import keras
import tensorflow as tf

from pnil_tf.layers import PNILLayer
from pnil_tf.serving.signatures import build_signatures, servable

SHAPE, CLASSES = (8, 8, 1), 4


def noise_layer(sigma, **arguments):
    bias = keras.initializers.Constant(2 * math.log(sigma))
    return PNILLayer(bias_initializer=bias, **arguments)


def sequential(*layers):
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            *layers,
            keras.layers.Flatten(),
            keras.layers.Dense(CLASSES, name="scores"),
        ],
        name="tiny",
    )


def noisy():
    """Two noise layers, one of them within."""
    model = sequential(noise_layer(0.5))
    model.add(noise_layer(0.3))
    return model


def load(path):
    """The signatures as functions of tensors, by name; they keep the model alive."""
    loaded = tf.saved_model.load(str(path))
    return {name: _answering(lambda: loaded.signatures, name) for name in loaded.signatures}


def offered(model, resized=False, **arguments):
    """The signatures that an export would have, without writing and loading one."""
    signatures = build_signatures(servable(model, **arguments), resized)
    return {name: _answering(lambda: signatures, name) for name in signatures}


def _answering(signatures, name):
    def call(**inputs):
        return {key: value.numpy() for key, value in signatures()[name](**inputs).items()}

    return call
