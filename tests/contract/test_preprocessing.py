"""What stands before a model's scaling or its first weights, and whether it hides the range."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf.contract.classifier import preprocessing_inside
from pnil_tf.contract.pixel_range import BYTES, UNIT
from pnil_tf.contract.preprocessing import Preprocessing
from pnil_tf.errors import UserError
from pnil_tf.serving.signatures import servable

D = keras.layers
ops = keras.ops
SHAPE = (8, 8, 3)
PIXELS = np.random.default_rng(0).integers(0, 256, (4, *SHAPE)).astype(np.uint8)
BLUR = np.full((3, 3, 3, 1), 1 / 9, np.float32)


def model(*fronts):
    images = x = keras.Input(SHAPE)
    for front in fronts:
        x = front(x)
    return keras.Model(images, D.Dense(2)(D.Flatten()(x)))


def lambdas(functions):
    return {name: lambda f=f: D.Lambda(f) for name, f in functions.items()}


@keras.saving.register_keras_serializable(package=__name__)
class Compiled(D.Layer):
    """A layer whose calls are a function of TensorFlow."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(3, 3, shape[-1], 2))

    @tf.function
    def call(self, x):
        return tf.nn.conv2d(x / 255.0, self.kernel, 1, "SAME")


KEEPING = {
    "channels thrice": lambda: lambda x: D.Concatenate()([x, x, x]),
    "antialias": lambda: D.Resizing(5, 5, antialias=True),
    "lanczos5": lambda: D.Resizing(5, 5, interpolation="lanczos5"),
    "max pooling": lambda: D.MaxPooling2D(),
    "average pooling": lambda: D.AveragePooling2D(2),
    "upsampling": lambda: D.UpSampling2D(),
    "relu": lambda: D.ReLU(),
    **lambdas(
        {
            "clip": lambda x: ops.clip(x, 0, 255),
            "repeat": lambda x: ops.repeat(x, 2, -1),
            "tile": lambda x: ops.tile(x, (1, 1, 1, 2)),
            "take": lambda x: ops.take(x, [0, 1], -1),
            "roll": lambda x: ops.roll(x, 1, 1),
            "split": lambda x: tf.concat(tf.split(x, 3, -1)[::-1], -1),
            "unused split": lambda x: tf.split(x, 3, -1)[1],
            "broadcast": lambda x: ops.broadcast_to(x[:, None], (ops.shape(x)[0], 2, *SHAPE)),
            "blocks": lambda x: tf.nn.space_to_depth(x, 2),
            "gray": tf.image.rgb_to_grayscale,
            "gray to color": lambda x: tf.image.grayscale_to_rgb(x[..., :1]),
            "blur": lambda x: tf.nn.depthwise_conv2d(x, BLUR, [1, 1, 1, 1], "SAME"),
            "bytes": lambda x: tf.cast(tf.cast(x, tf.uint8), tf.float32),
            "minus its mean": lambda x: x - ops.mean(x, (1, 2, 3), keepdims=True),
        }
    ),
}


def named(name):
    loses = name == "tile" and KEEPING[name]()(keras.Input((6, 6, 3))).shape[-1] is None
    return pytest.param(name, marks=pytest.mark.skipif(loses, reason="an older Keras"))


@pytest.mark.parametrize("name", map(named, KEEPING))
def test_a_scale_is_found_behind_all_that_keeps_values(name):
    keras_model = model(KEEPING[name](), D.Rescaling(1 / 127.5, -1.0))
    served = servable(keras_model)
    assert served.pixel_range == BYTES
    expected = keras_model(PIXELS.astype(np.float32), training=False)
    answers = served.predict(served.of_bytes(tf.constant(PIXELS)))
    np.testing.assert_allclose(answers, expected, rtol=1e-3, atol=1e-4)


UNKNOWN = {
    "relu": lambda: D.ReLU(),
    "relu6": lambda: D.ReLU(6.0),
    "tanh": lambda: D.Activation("tanh"),
    "a compiled layer": lambda: Compiled(),
    "bins": lambda: D.Discretization(bin_boundaries=[10.0, 50.0]),
    **lambdas(
        {
            "yuv": tf.image.rgb_to_yuv,
            "hsv": tf.image.rgb_to_hsv,
            "logarithm": ops.log1p,
            "logarithm of a sum": lambda x: ops.log(x + 1e-3),
            "root": lambda x: ops.sqrt(x + 1e-6),
            "power": lambda x: ops.power(x + 1e-7, 0.45),
            "square": lambda x: x * x,
            "absolute": ops.abs,
            "not a number": ops.nan_to_num,
            "threshold": lambda x: ops.cast(x > 100.0, "float32"),
            "edges": lambda x: tf.nn.depthwise_conv2d(x, BLUR - 1 / 9, [1, 1, 1, 1], "SAME"),
            "minus gray": lambda x: x - tf.image.rgb_to_grayscale(x),
            "clip to 100": lambda x: ops.clip(x, 0, 100),
        }
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_may_need_particular_pixels_asks_for_their_range(name):
    keras_model = model(UNKNOWN[name]())
    assert preprocessing_inside(keras_model, SHAPE) == Preprocessing(None, understood=False)


def test_export_asks_for_the_range_that_a_model_hides():
    keras_model = model(UNKNOWN["logarithm"]())
    with pytest.raises(UserError, match=r"does not tell their range.*Pass it: \(0, 255\)"):
        servable(keras_model)
    served = servable(keras_model, pixel_range=(0, 255))
    np.testing.assert_allclose(
        served.predict(served.of_bytes(tf.constant(PIXELS))),
        keras_model(PIXELS.astype(np.float32)),
        rtol=1e-3,
        atol=1e-4,
    )


def test_a_scale_holds_whatever_follows_it():
    fronts = [D.ReLU(), D.Activation("tanh"), D.Lambda(ops.log1p), D.Lambda(tf.image.rgb_to_yuv)]
    for front in fronts:
        found = preprocessing_inside(model(D.Rescaling(1 / 127.5, -1.0), front), SHAPE)
        assert found == Preprocessing(BYTES)


def test_a_clip_tells_the_range_and_may_contradict_the_scale():
    def found(low, high, *layers):
        clip = D.Lambda(lambda x: ops.clip(x, low, high))
        return preprocessing_inside(model(clip, *layers), SHAPE)

    assert found(0, 255) == Preprocessing(BYTES)
    assert found(0, 1) == Preprocessing(UNIT)
    assert found(-1000, 1000) == Preprocessing(None)
    assert not found(0, 1, D.Rescaling(1 / 255)).understood


ORDINARY = {
    "convolution": lambda: D.Conv2D(4, 3),
    "patches": lambda: D.Conv2D(4, 4, strides=4),
    "depthwise": lambda: D.DepthwiseConv2D(3),
    "grouped": lambda: D.Conv2D(6, 3, groups=3),
    "transposed": lambda: D.Conv2DTranspose(3, 3),
    "spectral": lambda: D.SpectralNormalization(D.Conv2D(4, 3)),
    "recurrent": lambda: lambda x: D.LSTM(4)(D.Reshape((8, 24))(x)),
    "recurrent over images": lambda: D.ConvLSTM1D(3, 3),
    "einsum": lambda: D.EinsumDense("bhwc,cd->bhwd", (8, 8, 4)),
    "dense block": lambda: lambda x: D.Concatenate()([x, D.Conv2D(3, 3, padding="same")(x)]),
    "residual": lambda: lambda x: x + D.Conv2D(3, 3, padding="same")(x),
    "augmentation": lambda: keras.Sequential(
        [D.RandomFlip(), D.RandomRotation(0.1), D.RandomBrightness(0.1), D.ZeroPadding2D(1)]
    ),
    "layer statistics": lambda: D.LayerNormalization(),
    "group statistics": lambda: D.GroupNormalization(1),
    "own statistics": lambda: D.Lambda(tf.image.per_image_standardization),
    "own contrast": lambda: D.AutoContrast(),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_beginnings_are_understood(name):
    found = preprocessing_inside(model(ORDINARY[name]()), SHAPE)
    assert found == Preprocessing(None)


def adapted(mean, deviation):
    return D.Normalization(mean=[mean] * 3, variance=[deviation**2] * 3)


BORDERED = np.pad(np.ones((6, 6, 3), np.float32), ((1, 1), (1, 1), (0, 0)))
OF_BYTES = {
    "signed": lambda: D.Rescaling(1 / 127.5, -1.0),
    "signed by 128": lambda: D.Rescaling(1 / 128, -1.0),
    "half signed": lambda: D.Rescaling(1 / 255, -0.5),
    "caffe": lambda: D.Rescaling(1.0, -120.0),
    "digits": lambda: adapted(33.3, 78.6),
    "photographs": lambda: adapted(123.7, 58.4),
    "satellite": lambda: adapted(96.0, 17.0),
    "constant border": lambda: D.Normalization(
        axis=(1, 2, 3), mean=BORDERED * 60.0, variance=BORDERED * 80.0**2
    ),
}
OF_OTHERS = {
    "16 signed": lambda: D.Rescaling(1 / 8, -1.0),
    "16 half signed": lambda: D.Rescaling(1 / 16, -0.5),
    "100 signed": lambda: D.Rescaling(1 / 50, -1.0),
    "digits up to 16": lambda: adapted(4.9, 6.0),
    "16 about their mean": lambda: D.Rescaling(1.0, -4.9),
    "degrees": lambda: D.Lambda(lambda x: (x - 25.0) / 5.0),
}


@pytest.mark.parametrize("name", OF_BYTES)
def test_scales_of_bytes_are_known(name):
    assert preprocessing_inside(model(OF_BYTES[name]()), SHAPE) == Preprocessing(BYTES)


@pytest.mark.parametrize("name", OF_OTHERS)
def test_scales_of_no_usual_pixels_are_not_taken_for_those_of_bytes(name):
    found = preprocessing_inside(model(OF_OTHERS[name]()), SHAPE)
    assert found == Preprocessing(None, understood=False)
