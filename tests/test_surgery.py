"""add_pnil: the copy has the noise where it was asked for, and everything else unchanged."""

import re
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.copying import copied
from pnil_tf.errors import UserError
from pnil_tf.keras_internals import all_layers
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


@keras.saving.register_keras_serializable(package=__name__)
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


class WithoutConfig(keras.Model):
    def __init__(self, units):
        super().__init__()
        self.flatten = keras.layers.Flatten()
        self.head = keras.layers.Dense(units)

    def call(self, x):
        return self.head(self.flatten(x))


class WithAnotherConfig(WithoutConfig):
    def get_config(self):
        return {"width": 3}


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


@pytest.mark.parametrize("make", [sequential, pytest.param(subclassed, marks=pytest.mark.slow)])
def test_training_the_copy_leaves_the_original_alone(make):
    model, x = make(), images(20, 28, 28, 1)
    before = model.get_weights()
    trained = AdversarialModel(add_pnil(model), "nfgsm", 0.1, validation_attack="none")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trained.compile("adam", loss, run_eagerly=True)
    history = trained.fit(x, np.arange(20) % 4, batch_size=10, epochs=1, verbose=0).history
    assert np.isfinite(history["loss"][0])
    for weight, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)
    assert np.any(trained.classifier.get_layer("pnil").bias)
    model.compile("adam", loss, run_eagerly=True)
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


def test_the_noise_comes_before_the_preprocessing_or_behind_it():
    model = keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            keras.layers.Rescaling(1 / 255, name="scale"),
            keras.layers.Conv2D(2, 3, name="conv"),
        ]
    )
    raw, scaled = add_pnil(model), add_pnil(model, before="conv")
    assert [layer.name for layer in raw.layers[1:]] == ["pnil", "scale", "conv"]
    assert [layer.name for layer in scaled.layers[1:]] == ["scale", "pnil", "conv"]


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


def test_a_layer_within_a_nested_model_may_go_by_its_own_name_if_no_other_has_it():
    def part(name, features):
        layers = [keras.Input((4,)), keras.layers.Dense(features, name=f"{name}_own")]
        return keras.Sequential([*layers, keras.layers.Dense(4, name="shared")], name=name)

    outer = keras.Sequential([keras.Input((4,)), part("one", 3), part("other", 5)])
    x = images(5, 4)
    hardened = add_pnil(outer, before="other_own")
    np.testing.assert_allclose(silent(hardened, x), outer(x), atol=1e-5)
    assert position(hardened.get_layer("other")) == [1]
    assert position(hardened.get_layer("one")) == []
    for name, near in (("shared", "shared"), ("other_ovn", "other_own")):
        with pytest.raises(UserError, match=rf"Received: before='{name}'\. .*\b{near}\b"):
            add_pnil(outer, before=name)


def test_a_layer_that_was_called_by_keyword():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2, name="head")(inputs=inputs))
    x = images(5, 4)
    hardened = add_pnil(model, before="head")
    np.testing.assert_allclose(silent(hardened, x), model(x), atol=1e-6)
    assert not np.allclose(hardened(x), hardened(x))


def adapted():
    layer = keras.layers.Normalization()
    layer.adapt(255 * images(50, 8, 8, 3))
    return layer


def normalizing_sequential():
    return keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Rescaling(255.0), adapted(), *head()]
    )


def normalizing_functional():
    inputs = keras.Input((8, 8, 3))
    shared = adapted()
    x = keras.layers.Concatenate()([shared(255 * inputs), shared(inputs)])
    for layer in head():
        x = layer(x)
    return keras.Model(inputs, x)


def normalizing_backbone():
    backbone = keras.Sequential(
        [keras.Input((8, 8, 3)), adapted(), keras.layers.Conv2D(3, 1, name="conv")],
        name="backbone",
    )
    return keras.Sequential([keras.Input((8, 8, 3)), backbone, *head()])


@keras.saving.register_keras_serializable(package=__name__)
class Normalizing(Subclassed):
    def __init__(self, units=3, **kwargs):
        super().__init__(units, **kwargs)
        self.normalization = adapted()

    def call(self, x):
        return super().call(self.normalization(x))


def normalizing_subclassed():
    model = Normalizing()
    model(images(1, 8, 8, 3))
    # What the constructor adapted is not what the model holds in the end.
    model.normalization.adapt(100 + 50 * images(50, 8, 8, 3))
    return model


def head():
    return [keras.layers.Flatten(name="flatten"), keras.layers.Dense(4)]


@pytest.mark.parametrize(
    ("make", "before"),
    [
        (normalizing_sequential, None),
        (normalizing_sequential, "flatten"),
        (normalizing_functional, None),
        (normalizing_functional, "flatten"),
        (normalizing_backbone, None),
        (normalizing_backbone, "flatten"),
        (normalizing_backbone, "backbone/conv"),
        (normalizing_subclassed, None),
    ],
)
def test_adapted_statistics_are_kept_also_after_saving(make, before, tmp_path):
    model, x = make(), images(4, 8, 8, 3)
    expected = model(x).numpy()
    hardened = add_pnil(model, before)
    np.testing.assert_allclose(silent(hardened, x), expected, rtol=1e-5, atol=1e-5)
    hardened.save(tmp_path / "hardened.keras")
    again = keras.models.load_model(tmp_path / "hardened.keras")
    np.testing.assert_allclose(silent(again, x), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(model(x), expected)


def test_vocabularies_and_bins_are_kept():
    words = keras.Input((), dtype="string", name="words")
    ages = keras.Input((1,), name="ages")
    pixels = keras.Input((3,), name="pixels")
    lookup = keras.layers.StringLookup(output_mode="one_hot")
    lookup.adapt(["cat", "dog", "dog"])
    text = keras.layers.TextVectorization(output_mode="multi_hot", max_tokens=5)
    text.adapt(["a cat", "a dog"])
    bins = keras.layers.Discretization(num_bins=3, output_mode="one_hot")
    bins.adapt(np.arange(30.0)[:, None])
    dense = keras.layers.Dense(2, name="dense")(pixels)
    x = keras.layers.Concatenate()([lookup(words), text(words), bins(ages), dense])
    model = keras.Model({"words": words, "ages": ages, "pixels": pixels}, x)
    batch = {
        "words": tf.constant(["cat", "dog", "cow"]),
        "ages": tf.constant([[3.0], [15.0], [29.0]]),
        "pixels": tf.constant(images(3, 3)),
    }
    hardened = add_pnil(model, before="dense")
    np.testing.assert_allclose(silent(hardened, batch), model(batch), atol=1e-6)


def test_lambda_layers_of_a_model_in_memory_are_no_obstacle():
    table = {"factor": np.float32(3.0)}  # no file could keep what the functions refer to

    def scaled(x):
        return tf.multiply(x, table["factor"])

    inner = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Lambda(lambda x: x - table["factor"]),
            keras.layers.Dense(3, activation=lambda x: tf.math.softplus(x)),
        ],
        name="inner",
    )
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Lambda(scaled), inner, *head()],
    )
    x = images(4, 8, 8, 3)
    for before in (None, "inner", "flatten"):
        hardened = add_pnil(model, before)
        np.testing.assert_allclose(silent(hardened, x), model(x), atol=1e-5)


def test_a_frozen_backbone_with_a_lambda_stays_frozen():
    inner = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Lambda(lambda x: x), keras.layers.Conv2D(2, 3)],
        name="inner",
    )
    inner.trainable = False
    model = keras.Sequential([keras.Input((8, 8, 3)), inner, *head()])
    hardened = add_pnil(model)
    assert not hardened.get_layer("inner").trainable_weights
    assert len(hardened.trainable_weights) == 4  # two of the noise, two of the last layer


@keras.saving.register_keras_serializable(package=__name__)
class Block(keras.layers.Layer):
    """Makes its layers itself, in a list and a dictionary."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.parts = [keras.layers.Conv2D(2, 3), keras.layers.BatchNormalization()]
        self.last = {"dense": keras.layers.Dense(3)}

    def build(self, shape):
        for layer in (*self.parts, *self.last.values()):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, x):
        for layer in self.parts:
            x = layer(x)
        return self.last["dense"](x)


@keras.saving.register_keras_serializable(package=__name__)
class Transferred(keras.Model):
    """A backbone and a head that its constructor makes."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.base = keras.Sequential([Block(), keras.layers.Flatten()])
        self.head = keras.layers.Dense(2)

    def call(self, x, training=False):
        return self.head(self.base(x, training=training))


def transferred():
    model = Transferred()
    model(images(2, 8, 8, 3))
    return model


def frozen_but_one_part():
    model = transferred()
    model.base.trainable = False
    model.base.layers[0].parts[0].trainable = True
    return model


def frozen_weight():
    model = transferred()
    model.head.kernel.trainable = False
    return model


def frozen_in_a_dictionary():
    block = Block()
    model = keras.Sequential([keras.Input((8, 8, 3)), block, *head()])
    block.last["dense"].trainable = False
    return model


@keras.saving.register_keras_serializable(package=__name__)
class Sharing(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.shared = keras.layers.Dense(3)
        self.rows = keras.layers.TimeDistributed(self.shared)
        self.head = keras.layers.Dense(2)

    def call(self, x):
        return self.head(keras.ops.mean(self.rows(x), [1, 2]))


def frozen_where_it_is_shared():
    model = Sharing()
    model(images(2, 8, 8, 3))
    model.rows.trainable = False
    model.shared.trainable = True
    return model


def frozen_without_weights():
    model = transferred()
    model.base.layers[1].trainable = False
    return keras.Sequential([keras.Input((8, 8, 3)), model, keras.layers.Activation("relu")])


def frozen_within_a_wrapper():
    wrapper = keras.layers.TimeDistributed(keras.layers.Dense(3))
    model = keras.Sequential([keras.Input((8, 8, 3)), wrapper, *head()])
    wrapper.layer.trainable = False
    return model


@pytest.mark.parametrize(
    "make",
    [
        frozen_but_one_part,
        frozen_weight,
        frozen_in_a_dictionary,
        frozen_where_it_is_shared,
        frozen_without_weights,
        frozen_within_a_wrapper,
    ],
)
def test_what_a_constructor_made_stays_frozen(make):
    model = make()
    copy = copied(model)

    def state(of):
        flags = [(type(layer), layer.trainable) for layer in all_layers(of)]
        return flags, [weight.trainable for weight in of.weights]

    assert state(copy) == state(model)
    assert len(add_pnil(model).trainable_weights) == len(model.trainable_weights) + 2


def test_a_frozen_backbone_is_not_trained():
    model = transferred()
    model.base.trainable = False
    hardened = add_pnil(model)
    base = next(part for part in hardened.layers if isinstance(part, Transferred)).base
    before = base.get_weights()
    training = AdversarialModel(hardened, "fgsm", 0.1, validation_attack="none")
    training.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    training.fit(images(8, 8, 8, 3), np.arange(8) % 2, verbose=0)
    for weight, value in zip(base.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_a_part_that_was_replaced_is_frozen_in_the_copy():
    model = Transferred()
    model.base = keras.Sequential([Block(), keras.layers.Flatten()])
    model.base.trainable = False
    model(images(2, 8, 8, 3))
    assert len(add_pnil(model).trainable_weights) == 2 + 2


def test_frozen_layers_that_a_copy_does_not_have_are_refused():
    model = Transferred()
    model.other = keras.layers.Dropout(0.5)
    model(images(2, 8, 8, 3))
    add_pnil(model)
    model.base.trainable = False
    with pytest.raises(UserError, match=r"cannot be copied with '\w+' frozen: its copy has other"):
        add_pnil(model)


def test_a_compiled_model_with_a_loss_of_its_own_is_copied():
    def own_loss(labels, outputs):
        return tf.reduce_mean(outputs, -1)

    for model in (subclassed(), sequential()):
        model.compile("adam", own_loss)
        x = images(2, 28, 28, 1)
        np.testing.assert_allclose(silent(add_pnil(model), x), model(x), atol=1e-6)


def test_layers_that_are_not_registered_are_copied():
    class Shift(keras.layers.Layer):
        def build(self, shape):
            self.by = self.add_weight(shape=(), initializer="ones")

        def call(self, x):
            return x + self.by

    model = keras.Sequential([keras.Input((8, 8, 3)), Shift(), *head()])
    x = images(2, 8, 8, 3)
    np.testing.assert_allclose(silent(add_pnil(model), x), model(x), atol=1e-6)


def shifts(by):
    """A class of its own for every number, all of one name and without a registration."""

    class Shift(keras.layers.Layer):
        def call(self, x):
            return x + by

    return Shift()


def test_classes_that_share_a_name_stay_apart():
    inner = keras.Sequential([keras.Input((8, 8, 3)), shifts(1.0), shifts(-3.0)], name="inner")
    model = keras.Sequential([keras.Input((8, 8, 3)), inner, *head()])
    x = images(2, 8, 8, 3)
    np.testing.assert_allclose(silent(add_pnil(model), x), model(x), atol=1e-6)
    assert {type(layer).__name__ for layer in inner.layers} == {"Shift"}


class Forgetful(keras.layers.Layer):
    """Keeps its number neither in a weight nor in its configuration."""

    by = 0.0

    def call(self, x):
        return x + self.by


@pytest.mark.parametrize("nested", [False, True])
def test_a_copy_that_answers_otherwise_is_refused(nested):
    layer = Forgetful()
    layer.by = 2.0
    if nested:
        layer = keras.Sequential([keras.Input((8, 8, 3)), layer])
    model = keras.Sequential([keras.Input((8, 8, 3)), layer, *head()], name="mine")
    with pytest.raises(UserError, match="The copy of 'mine' does not answer as the model does"):
        add_pnil(model)


class Untraceable(keras.layers.Layer):
    """Runs in Python alone."""

    def call(self, x):
        return tf.constant(x.numpy() * 2)

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


def test_a_model_that_cannot_be_traced_gets_its_noise_all_the_same():
    model = keras.Sequential([keras.Input((8, 8, 3)), Untraceable(), *head()])
    x = images(2, 8, 8, 3)
    np.testing.assert_allclose(silent(add_pnil(model), x), model(x), atol=1e-6)


@pytest.mark.parametrize(
    ("first", "before", "expected"),
    [
        ([], None, (0, 1)),
        ([keras.layers.Rescaling(1 / 255)], None, (0, 255)),
        ([keras.layers.Rescaling(1 / 255)], "conv", (0, 1)),
        ([keras.layers.Rescaling(1 / 127.5, -1)], "conv", (-1, 1)),
        ([keras.layers.Resizing(9, 9), keras.layers.Rescaling(2.0, -1)], "conv", (-1, 1)),
        ([keras.layers.Rescaling(1 / 255)], "flatten", (0, 1)),
    ],
)
def test_the_noise_starts_as_a_share_of_the_pixels_it_sees(first, before, expected):
    layers = [type(layer).from_config(layer.get_config()) for layer in first]
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), *layers, keras.layers.Conv2D(3, 3, name="conv"), *head()]
    )
    hardened = add_pnil(model, before, initial_sigma=0.2)
    layer = hardened.get_layer("pnil")
    assert (layer.pixel_range.low, layer.pixel_range.high) == pytest.approx(expected)
    np.testing.assert_allclose(np.exp(layer.bias / 2), 0.2, rtol=1e-5)
    x = layer.pixel_range.from_unit(images(*(200, *layer.input.shape[1:])))
    width = expected[1] - expected[0]
    assert np.std(layer(x) - x) == pytest.approx(0.2 * width, rel=0.05)


def test_the_range_is_followed_into_a_nested_model_and_can_be_given():
    backbone = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Rescaling(2.0, -1), keras.layers.Conv2D(2, 3)],
        name="backbone",
    )
    backbone.layers[-1].name = "conv"
    outer = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Rescaling(1 / 255), backbone, *head()]
    )
    for given, expected in ((None, (-1, 1)), ((0, 510), (-1, 3))):
        inside = add_pnil(outer, "backbone/conv", pixel_range=given).get_layer("backbone")
        found = inside.get_layer("pnil").pixel_range
        assert (found.low, found.high) == pytest.approx(expected, abs=1e-5)
    front = add_pnil(outer, pixel_range=(-4, 4)).get_layer("pnil").pixel_range
    assert (front.low, front.high) == (-4, 4)


@pytest.mark.slow
def test_an_efficient_net_keeps_its_normalization(tmp_path):
    model = keras.applications.EfficientNetB0(weights=None, input_shape=(32, 32, 3), classes=4)
    normalization = next(x for x in model.layers if isinstance(x, keras.layers.Normalization))
    normalization.adapt(images(20, 32, 32, 3))
    hardened, x = add_pnil(model), 255 * images(2, 32, 32, 3)
    np.testing.assert_allclose(silent(hardened, x), model(x), atol=1e-5)
    assert (hardened.get_layer(normalization.name).mean == normalization.mean).numpy().all()
    assert hardened.get_layer("pnil").pixel_range.high == 255
    hardened.save(tmp_path / "hardened.keras")
    again = keras.models.load_model(tmp_path / "hardened.keras")
    np.testing.assert_allclose(silent(again, x), model(x), atol=1e-5)


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


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (WithoutConfig, r".*(has no `get_config` of its own|unexpected keyword argument '\w+')"),
        (WithAnotherConfig, r".*__init__\(\) got an unexpected keyword argument 'width'"),
    ],
)
def test_a_model_that_cannot_be_copied_gets_few_words(kind, wrong):
    with pytest.raises(UserError) as caught:
        add_pnil(subclassed(kind))
    helps = (
        r"Give it a `get_config` that returns its constructor's arguments \(saving it needs that "
        rf"too\)\. Or call a PNILLayer first in the `call` of {kind.__name__}\."
    )
    assert re.fullmatch(rf"{kind.__name__} cannot be copied: {wrong}\. {helps}", str(caught.value))


def test_a_range_that_nothing_tells_is_warned_of():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Lambda(lambda x: keras.ops.log1p(x)),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    with pytest.warns(UserWarning, match=r"does not tell their range\. \[0, 1\] is assumed"):
        add_pnil(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert add_pnil(model, pixel_range=(0, 255)).get_layer("pnil").pixel_range.high == 255
