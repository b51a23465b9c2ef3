"""Small classifiers of 8 x 8 images in 4 classes, and ways to ask exported ones."""

import math

import keras
import tensorflow as tf

from pnil_tf.layers import PNILLayer

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

    def caller(name):
        def call(**inputs):
            answers = loaded.signatures[name](**inputs)
            return {key: value.numpy() for key, value in answers.items()}

        return call

    return {name: caller(name) for name in loaded.signatures}
