"""add_pnil: the copy has the noise where it was asked for, and everything else unchanged."""

import keras
import numpy as np
import pytest

from pnil_tf import rng
from pnil_tf.errors import UserError
from pnil_tf.layers import PNILLayer
from pnil_tf.models import resnet11, small_cnn
from pnil_tf.surgery import add_pnil
from pnil_tf.training.model import AdversarialModel


def images(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


def position(model, layer_type=PNILLayer):
    return [i for i, layer in enumerate(model.layers) if isinstance(layer, layer_type)]


def silent(model, x):
    with rng.noise_off():
        return model(x, training=False).numpy()


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.flatten = keras.layers.Flatten()
        self.head = keras.layers.Dense(units)

    def call(self, x):
        return self.head(self.flatten(x))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class Uncopyable(Subclassed):
    def get_config(self):
        raise NotImplementedError("no config.")


def subclassed(kind=Subclassed):
    model = kind(4)
    model(images(1, 28, 28, 1))
    return model


def sequential():
    return small_cnn((28, 28, 1), 4, width=2)


def functional():
    return resnet11((28, 28, 1), 4, width=2)


@pytest.mark.parametrize("make", [sequential, functional, subclassed])
def test_in_front_only_the_noise_is_new(make, tmp_path):
    model, x = make(), images(2, 28, 28, 1)
    expected = model(x).numpy()
    hardened = add_pnil(model, bias_initializer=keras.initializers.Constant(-2.0), name="noise")
    layer = hardened.get_layer("noise")
    assert layer.input is hardened.inputs[0]
    assert layer.kernel.shape == (28, 28, 1)
    np.testing.assert_allclose(layer.bias, -2.0)
    np.testing.assert_allclose(silent(hardened, x), expected, atol=1e-6)
    assert not np.isclose(hardened(x), expected).all()
    assert hardened.count_params() == model.count_params() + 2 * 28 * 28

    hardened.save(tmp_path / "hardened.keras")
    again = keras.models.load_model(tmp_path / "hardened.keras")
    np.testing.assert_allclose(silent(again, x), expected, atol=1e-6)


@pytest.mark.parametrize("make", [sequential, subclassed])
def test_training_the_copy_leaves_the_original_alone(make):
    model, x = make(), images(20, 28, 28, 1)
    before = model.get_weights()
    trained = AdversarialModel(add_pnil(model), "nfgsm", 0.1, validation_attack="none")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trained.compile("adam", loss)
    history = trained.fit(x, np.arange(20) % 4, batch_size=10, epochs=1, verbose=0).history
    assert np.isfinite(history["loss"][0])
    for weight, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)
    assert np.any(trained.classifier.get_layer("pnil").bias)
    model.compile("adam", loss)
    model.fit(x, np.arange(20) % 4, epochs=1, verbose=0)


def test_before_a_layer_of_a_sequential_model():
    model, x = sequential(), images(2, 28, 28, 1)
    second = model.layers[1]
    hardened = add_pnil(model, before=second.name)
    assert position(hardened) == [2]  # after the input and the first convolution
    assert hardened.layers[2].kernel.shape == (14, 14, 2)
    np.testing.assert_allclose(silent(hardened, x), model(x), atol=1e-6)


def test_before_one_branch_of_a_functional_model_leaves_the_others_quiet():
    inputs = keras.Input((4,))
    left = keras.layers.Dense(3, name="left")(inputs)
    right = keras.layers.Dense(3, name="right")(inputs)
    model = keras.Model(inputs, [left, right])
    x = images(2, 4)
    expected = [out.numpy() for out in model(x)]
    noisy_right = add_pnil(model, before="right")(x)
    np.testing.assert_allclose(noisy_right[0], expected[0], atol=1e-6)
    assert not np.isclose(noisy_right[1], expected[1]).any()
    noisy_both = add_pnil(model)(x)
    assert not np.isclose(noisy_both[0], expected[0]).any()


def test_after_preprocessing_the_noise_has_the_units_there():
    model = keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            keras.layers.Rescaling(1 / 255, name="scale"),
            keras.layers.Conv2D(2, 3, name="conv"),
        ]
    )
    x = 255 * images(2, 4, 4, 3)
    raw, scaled = add_pnil(model), add_pnil(model, before="conv")
    assert [layer.name for layer in raw.layers[1:]] == ["pnil", "scale", "conv"]
    assert [layer.name for layer in scaled.layers[1:]] == ["scale", "pnil", "conv"]
    expected = model(x).numpy()
    assert np.abs(raw(x) - expected).max() < 0.1 < np.abs(scaled(x) - expected).max()


def test_several_layers_get_names_of_their_own():
    twice = add_pnil(add_pnil(sequential()))
    assert [twice.layers[i].name for i in position(twice)] == ["pnil_1", "pnil"]


def test_what_is_frozen_stays_frozen():
    model = sequential()
    model.layers[0].trainable = False
    hardened = add_pnil(model)
    assert [layer.trainable for layer in hardened.layers[1:]] == [True, False, *[True] * 4]


@pytest.mark.slow
def test_a_model_of_keras_applications_trains_and_round_trips(tmp_path):
    model = keras.applications.MobileNetV2(
        weights=None, input_shape=(96, 96, 3), alpha=0.35, classes=4
    )
    x = images(4, 96, 96, 3)
    hardened = add_pnil(model)
    np.testing.assert_allclose(silent(hardened, x), model(x), atol=1e-5)
    trained = AdversarialModel(hardened, "nfgsm", 8 / 255, validation_attack="none")
    trained.compile("adam", keras.losses.SparseCategoricalCrossentropy())
    assert np.isfinite(trained.fit(x, np.arange(4), epochs=1, verbose=0).history["loss"][0])
    hardened.save(tmp_path / "hardened.keras")
    again = keras.models.load_model(tmp_path / "hardened.keras")
    np.testing.assert_allclose(silent(again, x), silent(hardened, x), atol=1e-5)


def test_a_model_of_keras_applications_keeps_its_outputs():
    model = keras.applications.MobileNet(
        weights=None, input_shape=(32, 32, 3), alpha=0.25, classes=4
    )
    x = images(2, 32, 32, 3)
    np.testing.assert_allclose(silent(add_pnil(model), x), model(x), atol=1e-5)


def two_inputs():
    inputs = [keras.Input((4,), name="first"), keras.Input((4,))]
    return keras.Model(inputs, keras.layers.Add(name="sum")(inputs))


def test_a_layer_within_a_nested_model_is_named_with_it():
    backbone = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="conv"), keras.layers.Flatten()],
        name="backbone",
    )
    outer = keras.Sequential([keras.Input((8, 8, 3)), backbone, keras.layers.Dense(2)])
    x = images(5, 8, 8, 3)
    hardened = add_pnil(outer, before="backbone/conv", name="noise")
    np.testing.assert_allclose(silent(hardened, x), outer(x), atol=1e-5)
    assert position(hardened) == []
    assert position(hardened.get_layer("backbone")) == [1]
    assert not np.allclose(hardened(x), hardened(x))
    assert position(backbone) == []
    with pytest.raises(UserError, match="no layer of this name"):
        add_pnil(outer, before="backbone/dense")


def test_a_layer_that_was_called_by_keyword():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2, name="head")(inputs=inputs))
    x = images(5, 4)
    hardened = add_pnil(model, before="head")
    np.testing.assert_allclose(silent(hardened, x), model(x), atol=1e-6)
    assert not np.allclose(hardened(x), hardened(x))


@pytest.mark.parametrize(
    ("model", "before", "message"),
    [
        (lambda: "a path", None, "Received: str"),
        (lambda: keras.Sequential([keras.layers.Dense(2)]), None, "not built"),
        (lambda: Subclassed(4), None, "not built"),
        (subclassed, "head", r"before='head' for Subclassed"),
        (sequential, keras.layers.Dense(2), "Received: Dense. Pass its `.name`"),
        (two_inputs, "first", "'first', an input"),
        (lambda: AdversarialModel(sequential(), "fgsm", 0.1), None, "Pass its `.classifier`"),
        (lambda: subclassed(Uncopyable), None, "get_config"),
        (two_inputs, None, "with 2"),
        (two_inputs, "sum", "takes 2"),
        (
            lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="dense_in")]),
            "dense_on",
            r"'dense_on'.*nearest names: dense_in",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(model, before, message):
    with pytest.raises(UserError, match=message):
        add_pnil(model(), before=before)
