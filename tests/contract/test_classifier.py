"""Whatever a classifier ends in and begins with: logits of images in [0, 1]."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.contract.classifier import classifier_of
from pnil_tf.contract.pixel_range import BYTES, SIGNED, UNIT
from pnil_tf.errors import UserError
from pnil_tf.layers import PNILLayer

D = keras.layers
X = np.random.default_rng(0).random((12, 8, 8, 1)).astype(np.float32)


def sequential(*layers, shape=(8, 8, 1)):
    return keras.Sequential([keras.Input(shape), *layers])


def functional(head):
    images = keras.Input((8, 8, 1))
    return keras.Model(images, head(images))


@keras.saving.register_keras_serializable(package=__name__)
class Subclassed(keras.Model):
    def __init__(self, head, count):
        super().__init__()
        self.flatten, self.dense, self.head = D.Flatten(), D.Dense(count, name="dense"), head

    def call(self, x):
        return self.head(self.dense(self.flatten(x)))


SOFTMAX = {
    "dense": lambda: sequential(D.Flatten(), D.Dense(3, activation="softmax")),
    "activation": lambda: sequential(D.Flatten(), D.Dense(3), D.Activation("softmax")),
    "softmax layer": lambda: sequential(D.Flatten(), D.Dense(3), D.Softmax()),
    "ops": lambda: functional(lambda x: keras.ops.softmax(D.Dense(3)(D.Flatten()(x)))),
    "linear behind": lambda: sequential(
        D.Flatten(), D.Dense(3, activation="softmax"), D.Activation("linear", dtype="float32")
    ),
    "reshape behind": lambda: sequential(
        D.Conv2D(3, 8, activation="softmax"), D.Reshape((3,)), D.Identity()
    ),
    "nested": lambda: functional(sequential(D.Flatten(), D.Dense(3, activation="softmax"))),
    "subclassed": lambda: Subclassed(keras.ops.softmax, 3),
}


def pre_activation(model, x):
    """The logits of a model of one layer with weights, by hand."""
    kernel, bias = (weight.numpy() for weight in model.weights)
    return np.asarray(x).reshape(len(x), -1) @ kernel.reshape(64, -1) + bias


@pytest.mark.parametrize("name", SOFTMAX)
@pytest.mark.parametrize("eager", [False, True], ids=["graph", "eager"])
def test_the_logits_behind_a_softmax_are_found_wherever_it_is(name, eager):
    model = SOFTMAX[name]()
    classifier = classifier_of(model, X)
    assert classifier.outputs.kind == "probabilities"
    assert classifier.classes == 3
    predict = classifier.predict if eager else tf.function(classifier.predict)
    logits, expected = predict(X).numpy(), pre_activation(model, X)
    # In a graph exactly; eagerly up to a constant for each image, which no loss sees.
    if eager:
        logits, expected = (values - values[:, :1] for values in (logits, expected))
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("layers", "kind"),
    [
        ((D.Dense(1),), "one logit"),
        ((D.Dense(1, activation="sigmoid"),), "one probability"),
        ((D.Dense(1), D.Activation("sigmoid"), D.Activation("linear")), "one probability"),
        ((D.Dense(1, activation="tanh"),), "one logit"),
    ],
)
@pytest.mark.parametrize("eager", [False, True], ids=["graph", "eager"])
def test_one_output_becomes_two_logits(layers, kind, eager):
    model = sequential(D.Flatten(), *(layer.from_config(layer.get_config()) for layer in layers))
    classifier = classifier_of(model, X)
    assert (classifier.outputs.kind, classifier.classes) == (kind, 2)
    logits = (classifier.predict if eager else tf.function(classifier.predict))(X).numpy()
    assert not logits[:, 0].any()
    z = pre_activation(model, X)[:, 0]
    expected = np.tanh(z) if layers[0].activation is keras.activations.tanh else z
    np.testing.assert_allclose(logits[:, 1], expected, rtol=1e-4, atol=1e-5)


def test_several_sigmoids_are_not_called_logits():
    model = sequential(D.Flatten(), D.Dense(10, activation="sigmoid"))
    classifier = classifier_of(model, X)
    assert classifier.outputs.kind == "independent probabilities"
    np.testing.assert_allclose(
        tf.function(classifier.predict)(X), pre_activation(model, X), rtol=1e-4, atol=1e-5
    )


def test_a_sure_softmax_keeps_its_gradient():
    model = sequential(D.Flatten(), D.Dense(3, activation="softmax"))
    model.layers[-1].kernel.assign(1000 * model.layers[-1].kernel)
    predict = classifier_of(model, X).predict

    @tf.function
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            first = tf.reduce_sum(predict(x)[:, 0])
        return tape.gradient(first, x)

    expected = np.tile(model.layers[-1].kernel.numpy()[:, 0], len(X)).reshape(X.shape)
    np.testing.assert_allclose(gradient(tf.constant(X)), expected, rtol=1e-4)


def normalization(x):
    layer = D.Normalization()
    layer.adapt(x)
    return layer


RANGES = {
    "none": (lambda: (), None),
    "1/255": (lambda: (D.Rescaling(1 / 255),), BYTES),
    "1/127.5 - 1": (lambda: (D.Rescaling(1 / 127.5, -1.0),), BYTES),
    "behind augmentation": (
        lambda: (D.RandomFlip(), D.RandomZoom(0.1), D.Rescaling(1 / 255)),
        BYTES,
    ),
    "behind resizing": (lambda: (D.Resizing(16, 16), D.Rescaling(1 / 255)), BYTES),
    "behind noise": (lambda: (PNILLayer(pixel_range=(0, 255)), D.Rescaling(1 / 255)), BYTES),
    "normalization of bytes": (lambda: (normalization(255 * X),), BYTES),
    "rescaling, normalization": (lambda: (D.Rescaling(1 / 255), normalization(X)), BYTES),
    "lambda": (lambda: (D.Lambda(lambda x: x / 255),), BYTES),
    "0..1 to -1..1": (lambda: (D.Rescaling(2.0, -1.0),), UNIT),
    "-1..1 to 0..255": (lambda: (D.Rescaling(127.5, 127.5),), SIGNED),
    "nested": (lambda: (sequential(D.Rescaling(1 / 255)),), BYTES),
    "normalization of units": (lambda: (normalization(X),), UNIT),
    "normalization of -1..1": (lambda: (normalization(2 * X - 1),), SIGNED),
    "normalization by 255": (lambda: (D.Normalization(mean=0.0, variance=255.0**2),), BYTES),
    "two branches of one mind": (lambda: (branches(1 / 255, 0.0),), BYTES),
}


def branches(scale, offset):
    images = keras.Input((8, 8, 1))
    both = [D.Rescaling(1 / 127.5, -1.0)(images), D.Rescaling(scale, offset)(images)]
    return keras.Model(images, D.Concatenate()(both))


@pytest.mark.parametrize("name", RANGES)
def test_the_pixel_range_is_found_in_the_preprocessing(name):
    layers, expected = RANGES[name]
    model = sequential(*layers(), D.Flatten(), D.Dense(3))
    classifier = classifier_of(model)
    assert classifier.found_range == expected
    with rng.noise_off():
        expected = model(classifier.pixel_range.from_unit(X), training=False)
        np.testing.assert_allclose(classifier.predict(X), expected, rtol=1e-4, atol=1e-4)


def test_preprocess_input_tells_the_range():
    preprocess = keras.applications.mobilenet_v2.preprocess_input
    model = functional(lambda x: D.Dense(2)(D.Flatten()(preprocess(x))))
    assert classifier_of(model).pixel_range == BYTES


@pytest.mark.parametrize("application", ["vgg16", "resnet50", "densenet", "xception"])
@pytest.mark.parametrize("as_layer", [False, True])
def test_every_preprocess_input_tells_the_range(application, as_layer):
    preprocess = getattr(keras.applications, application).preprocess_input
    images = keras.Input((8, 8, 3))
    scaled = D.Lambda(preprocess)(images) if as_layer else preprocess(images)
    model = keras.Model(images, D.Dense(2)(D.Flatten()(scaled)))
    classifier = classifier_of(model)
    assert (classifier.found_range, classifier.preprocessing_understood) == (BYTES, True)


UNCLEAR = {
    "batch statistics": lambda: D.BatchNormalization(),
    "two branches that contradict each other": lambda: branches(2.0, -1.0),
    "an unusual scale": lambda: D.Rescaling(3.0),
    "pixels up to 100": lambda: D.Rescaling(1 / 100),
    "16 bits": lambda: D.Rescaling(1 / 65535),
    "a learned scale": lambda: LearnedScale(),
}


class LearnedScale(D.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, x):
        return x * self.scale


@pytest.mark.parametrize("name", UNCLEAR)
def test_what_scales_pixels_without_telling_their_range_is_noticed(name):
    classifier = classifier_of(sequential(UNCLEAR[name](), D.Flatten(), D.Dense(2)))
    assert (classifier.found_range, classifier.preprocessing_understood) == (None, False)
    plain = [
        sequential(D.Conv2D(2, 3), D.BatchNormalization(), D.Flatten(), D.Dense(2)),
        functional(lambda x: D.Dense(2)(D.Flatten()(x + D.Conv2D(1, 3, padding="same")(x)))),
        functional(lambda x: D.Dense(2)(D.Flatten()(x - keras.ops.mean(x, 1, keepdims=True)))),
    ]
    assert all(classifier_of(model).preprocessing_understood for model in plain)


def test_a_little_that_is_added_tells_nothing():
    fronts = [
        lambda x: x - 0.02,
        lambda x: D.Rescaling(1.0, 1e-6)(x),
    ]
    for front in fronts:
        classifier = classifier_of(functional(lambda x, f=front: D.Dense(2)(D.Flatten()(f(x)))))
        assert (classifier.found_range, classifier.preprocessing_understood) == (None, True)


def always(kind, *arguments):
    class Always(kind):
        def call(self, x, training=False):
            return super().call(x, training=True)

    return Always(*arguments)


@pytest.mark.parametrize(
    "make",
    [
        lambda: always(D.Dropout, 0.2),
        lambda: always(D.GaussianNoise, 0.1),
        lambda: always(D.GaussianDropout, 0.1),
    ],
)
def test_noise_that_is_always_on_scales_no_pixels(make):
    def found(*layers):
        classifier = classifier_of(sequential(*layers, D.Flatten(), D.Dense(2)))
        return classifier.found_range, classifier.preprocessing_understood

    assert found(make()) == (None, True)
    assert found(D.Rescaling(1 / 255), make()) == (BYTES, True)
    assert found(make(), D.BatchNormalization())[0] is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.applications.MobileNetV3Small((32, 32, 3), weights=None),
        pytest.param(
            lambda: keras.applications.EfficientNetB0(input_shape=(32, 32, 3), weights=None),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda: keras.applications.ConvNeXtTiny(input_shape=(32, 32, 3), weights=None),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_applications_of_keras_tell_their_range(make):
    classifier = classifier_of(make())
    assert (classifier.pixel_range, classifier.outputs.kind) == (BYTES, "probabilities")


def test_a_range_that_is_given_holds():
    model = sequential(D.Rescaling(1 / 255), D.Flatten(), D.Dense(3))
    classifier = classifier_of(model, pixel_range=(-1, 1))
    assert (classifier.pixel_range, classifier.found_range) == (SIGNED, BYTES)
    np.testing.assert_allclose(classifier.predict(X), model(2 * X - 1), rtol=1e-4, atol=1e-6)


def test_a_callable_is_a_classifier_too():
    weights = tf.constant(np.random.default_rng(1).normal(size=(64, 3)), tf.float32)
    plain = classifier_of(lambda x: tf.reshape(x, [-1, 64]) @ weights, X)
    assert plain.outputs.kind == "logits"
    soft = classifier_of(lambda x: tf.nn.softmax(tf.reshape(x, [-1, 64]) @ weights), X)
    assert soft.outputs.kind == "probabilities"
    np.testing.assert_allclose(
        tf.function(soft.predict)(X), X.reshape(-1, 64) @ weights, rtol=1e-4, atol=1e-4
    )
    hidden = classifier_of(
        tf.function(lambda x: tf.nn.softmax(tf.reshape(x, [-1, 64]) @ weights)), X
    )
    assert hidden.outputs.kind == "probabilities"
    assert not hidden.outputs.exact


def test_one_output_that_nothing_explains_must_be_said():
    hidden = tf.function(lambda x: tf.sigmoid(tf.reduce_mean(x, [1, 2])))
    with pytest.raises(UserError, match="Nothing tells"):
        classifier_of(hidden, X)
    classifier = classifier_of(hidden, X, outputs="one probability")
    np.testing.assert_allclose(
        classifier.predict(X)[:, 1], X.mean((1, 2))[:, 0], rtol=1e-3, atol=1e-4
    )


IMAGES = keras.Input((8, 8, 1))
OTHER = keras.Input((1,), name="b")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: keras.Model(IMAGES, [D.Dense(2)(D.Flatten()(IMAGES))] * 2),
            "with one array",
        ),
        (lambda: keras.Model(IMAGES, {"a": D.Dense(2)(D.Flatten()(IMAGES))}), r"output\['a'\]"),
        (
            lambda: keras.Model(
                [IMAGES, OTHER], D.Dense(2)(D.Concatenate()([D.Flatten()(IMAGES), OTHER]))
            ),
            "has one input",
        ),
        (lambda: sequential(D.Conv2D(2, 3)), "segmentation"),
        (lambda: sequential(D.Flatten(), D.Dense(1, activation="softmax")), "always 1"),
        (lambda: sequential(D.Flatten(), D.Dense(2), D.Lambda(lambda x: x[:, 0])), "one row"),
        # At inference Keras' own layer crops nothing, and the next one does not fit.
        (
            lambda: sequential(D.RandomCrop(6, 6), D.Flatten(), D.Dense(2)),
            r"on images of shape \(4, 8, 8, 1\): Input 0 .* shape \(4, 64\)$",
        ),
        (lambda: 3, "must be a Keras model"),
        (lambda: Subclassed(keras.ops.softmax, 3), "which images it takes"),
    ],
)
def test_what_is_no_classifier_gets_one_sentence(make, words):
    with pytest.raises(UserError, match=words):
        classifier_of(make())
