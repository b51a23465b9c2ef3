"""The range of pixels behind a model's preprocessing, found by looking at even images."""

import keras
import numpy as np
import pytest

from pnil_tf.contract.pixel_range import BYTES, UNIT
from pnil_tf.contract.range_inside import range_inside

L = keras.layers


def per_channel():
    layer = L.Normalization(mean=[0.0, 100.0, 50.0], variance=[1.0, 4.0, 25.0])
    layer.build((None, None, None, 3))
    return layer


def stage(*layers, shape=(8, 8, 3)):
    return keras.Sequential([keras.Input(shape), *layers])


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([L.Rescaling(1 / 255)], (0, 1)),
        ([L.Rescaling(1 / 127.5, -1)], (-1, 1)),
        ([L.Rescaling(-1.0, 255)], (0, 255)),
        # Keras 3.11 takes one offset for one channel, and the output's shape comes out wrong.
        ([L.Rescaling([1.0, 2.0, 0.5], [0.0] * 3)], (0, 510)),
        ([per_channel()], (-50, 255)),
        ([L.Resizing(11, 5), L.Rescaling(1 / 255), L.CenterCrop(3, 3)], (0, 1)),
        ([L.RandomFlip(), L.RandomRotation(0.1), L.Rescaling(1 / 255)], (0, 1)),
    ],
)
def test_pixels_are_followed_through_preprocessing(layers, expected):
    found = range_inside(stage(*layers), BYTES)
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    "layers",
    [
        [L.Conv2D(3, 3)],
        [L.Conv2D(3, 1)],
        [L.Conv2D(4, 3)],
        [L.DepthwiseConv2D(3, padding="same")],
        [L.ReLU(max_value=100.0)],
        [L.Rescaling(0.0)],
        [L.Flatten()],
        [L.Rescaling(1 / 255), L.Activation("tanh")],
    ],
)
def test_behind_anything_else_there_are_no_pixels(layers):
    assert range_inside(stage(*layers), BYTES) is None


def test_the_input_itself():
    inputs = keras.Input((8, 8, 1))
    try:
        model = keras.Model(inputs, inputs)
    except ValueError:
        pytest.skip("this Keras builds no such model")
    assert range_inside(model, BYTES) == BYTES


def test_open_sizes_and_bytes():
    assert range_inside(stage(L.Rescaling(255.0), shape=(None, None, 1)), UNIT) == BYTES
    inputs = keras.Input((8, 8, 3), dtype="uint8")
    found = range_inside(keras.Model(inputs, L.Rescaling(1 / 255)(inputs)), BYTES)
    np.testing.assert_allclose((found.low, found.high), (0, 1), atol=1e-6)
