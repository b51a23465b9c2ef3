"""Noise that a layer computes from what surrounds a pixel."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.certificate.front import noise_in_front
from pnil_tf.contract.classifier import classifier_of
from pnil_tf.errors import UserError
from pnil_tf.layers import PNILLayer
from pnil_tf.log_variance import ConvLogVariance
from pnil_tf.pictures import pnil_maps
from pnil_tf.surgery import add_pnil


def images(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


def trained_context(**arguments):
    """Convolutions with weights that are not zero."""
    layer = ConvLogVariance(**arguments)
    layer.build((None, 12, 12, 3))
    layer.set_weights([images(*weight.shape, seed=7) - 0.5 for weight in layer.weights])
    return layer


def test_it_starts_with_the_noise_of_its_layer_and_is_learned():
    layer = PNILLayer(initial_sigma=0.25, sigma_floor=0.1, log_variance=ConvLogVariance())
    x = tf.constant(images(2, 8, 9, 3))
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(layer(x, training=True) ** 2)
    np.testing.assert_allclose(layer.sigma(x), 0.25, rtol=1e-6)
    assert layer.kernel is None
    assert layer.bias is None
    assert len(layer.trainable_weights) == 4
    gradients = tape.gradient(value, layer.trainable_weights[-2:])
    assert all(np.any(gradient) for gradient in gradients)


@pytest.mark.parametrize("pixels", [(0.0, 1.0), (0.0, 255.0), (-1.0, 1.0)])
def test_sigma_is_that_of_the_layer_in_shares_of_the_range(pixels):
    low, high = pixels
    context = trained_context()
    layer = PNILLayer(initial_sigma=0.3, pixel_range=pixels, log_variance=context)
    unit = images(2, 12, 12, 3)
    expected = np.log(0.3**2) + context(unit)
    x = low + unit * (high - low)
    np.testing.assert_allclose(layer.log_variance(x), expected, atol=1e-4)
    ones = np.ones(x.shape, np.float32)
    with rng.noise_from(lambda shape, call: tf.ones(shape)):
        noise = np.asarray(layer(x)) - x
    np.testing.assert_allclose(noise, (high - low) * ones * np.exp(expected / 2), rtol=1e-3)


def test_the_noise_moves_with_a_shifted_image_unlike_that_of_positions():
    x = np.zeros((1, 12, 12, 3), np.float32)
    x[:, 4:7, 4:7] = images(1, 3, 3, 3)
    moved = np.roll(x, (1, -1), (1, 2))
    follows = PNILLayer(log_variance=trained_context(kernel_size=3))
    found = np.roll(follows.sigma(x), (1, -1), (1, 2))
    np.testing.assert_allclose(follows.sigma(moved)[:, 3:-3, 3:-3], found[:, 3:-3, 3:-3], rtol=1e-5)
    stays = PNILLayer(bias_initializer=keras.initializers.RandomNormal(0.0, 1.0, seed=3))
    stays.build(x.shape)
    stays.kernel.assign(images(12, 12, 3))
    found = np.roll(stays.sigma(x), (1, -1), (1, 2))
    assert np.abs(stays.sigma(moved)[:, 3:-3, 3:-3] - found[:, 3:-3, 3:-3]).max() > 0.1


def test_one_channel_serves_all():
    one = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Conv2D(1, 3, padding="same")])
    layer = PNILLayer(log_variance=one)
    sigma = layer(images(2, 6, 6, 3)) is not None and layer.sigma(images(2, 6, 6, 3))
    assert sigma.shape == (2, 6, 6, 3)
    np.testing.assert_array_equal(sigma[..., 0], sigma[..., 2])


def test_a_saved_model_with_it_answers_as_before(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            PNILLayer(log_variance=trained_context(filters=4), sigma_floor=0.05),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    path = tmp_path / "model.keras"
    model.save(path)
    again = keras.models.load_model(path)
    x = images(3, 12, 12, 3)
    with rng.noise_scope(5):
        before = model(x)
    with rng.noise_scope(5):
        after = again(x)
    np.testing.assert_allclose(after, before, rtol=1e-5)
    assert again.layers[0].from_context.filters == 4


def test_a_layer_saved_before_it_existed_is_still_read():
    config = PNILLayer().get_config()
    del config["log_variance"]
    assert PNILLayer.from_config(config).from_context is None


def test_it_computes_in_float32_under_a_mixed_policy():
    layer = PNILLayer(log_variance=ConvLogVariance(), dtype="mixed_bfloat16")
    x = images(2, 6, 6, 1)
    assert layer(x).dtype == "bfloat16"
    assert layer.sigma(x).dtype == "float32"


def test_it_is_put_into_a_model_and_drawn(tmp_path):
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
    )
    model.add(keras.layers.Dense(2))
    noisy = add_pnil(model, log_variance=ConvLogVariance(2, 3))
    pnil_maps(noisy, images(2, 8, 8, 1) * 255, tmp_path / "maps.png")
    assert (tmp_path / "maps.png").stat().st_size > 1000


def test_a_certificate_refuses_it():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            PNILLayer(log_variance=ConvLogVariance()),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    with pytest.raises(UserError, match=r"log_variance.*nothing bounds"):
        noise_in_front(classifier_of(model))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"log_variance": "conv"}, r"Keras layer.*str.*ConvLogVariance\(\)"),
        ({"log_variance": keras.layers.Identity(), "per_channel": True}, "per_channel is about W"),
        ({"log_variance": keras.layers.Identity(), "use_kernel": False}, "use_kernel=False is"),
        (
            {
                "log_variance": keras.layers.Identity(),
                "kernel_constraint": "non_neg",
            },
            "kernel_constraint is about W and B",
        ),
    ],
)
def test_what_cannot_be_is_refused(arguments, said):
    with pytest.raises(UserError, match=said):
        PNILLayer(**arguments)


def test_a_log_variance_of_another_shape_is_refused():
    layer = PNILLayer(log_variance=keras.layers.Conv2D(2, 3))
    with pytest.raises(UserError, match=r"makes \(None, 6, 6, 2\) of \(None, 8, 8, 3\)"):
        layer.build((None, 8, 8, 3))


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "3"])
@pytest.mark.parametrize("name", ["filters", "kernel_size"])
def test_a_convolution_needs_sizes(name, size):
    with pytest.raises(UserError, match=f"{name}, a whole number of at least 1"):
        ConvLogVariance(**{name: size})
