"""Models are told apart by what they do, and known again whatever their layers are called."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf.evaluation.fingerprint import fingerprint
from pnil_tf.evaluation.target import as_target
from pnil_tf.layers import PNILLayer

X = np.random.default_rng(0).random((16, 4, 4, 1), np.float32)


def mark(model):
    return fingerprint(as_target(model, X, pixel_range=(0, 1), outputs="logits"))


def joined(join, noise=False):
    """The same layers and weights each time, joined as `join` says."""
    images = keras.Input((4, 4, 1))
    seen = PNILLayer()(images) if noise else images
    answers = join(keras.layers.Flatten()(seen), keras.layers.Dense(16, "relu"))
    model = keras.Model(images, keras.layers.Dense(3)(answers))
    numbers = np.random.default_rng(1)
    model.set_weights([numbers.normal(size=w.shape) for w in model.weights])
    return model


def to_itself(x, dense):
    return keras.layers.Add()([dense(x), dense(x)])


def to_its_images(x, dense):
    return keras.layers.Add()([dense(x), x])


def cut_at(limit):
    return lambda x, dense: keras.ops.minimum(dense(x), limit)


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize(
    ("one", "other"), [(to_itself, to_its_images), (cut_at(0.5), cut_at(0.25))]
)
def test_models_of_the_same_layers_that_are_joined_otherwise(one, other, noise):
    marks = [mark(joined(join, noise)) for join in (one, one, other)]
    assert marks[0] == marks[1] != marks[2]


class Turned(keras.Model):
    """Whose constructor decides what it does, and of which Keras knows neither."""

    def __init__(self, turned):
        super().__init__()
        self.hidden = [turned]
        self.noise = PNILLayer()
        self.dense = keras.layers.Dense(3, kernel_initializer="ones", use_bias=False)

    def call(self, x):
        x = self.noise(x)
        return self.dense(keras.ops.reshape(1 - x if self.hidden[0] else x, (-1, 16)))

    def get_config(self):
        return {}


def test_a_subclassed_model_that_does_something_else():
    models = [Turned(turned) for turned in (False, False, True)]
    for model in models:
        model(X)
    marks = [mark(model) for model in models]
    assert marks[0] == marks[1] != marks[2]


def test_a_layer_that_cannot_be_written_down():
    class Raised(keras.layers.Layer):
        def __init__(self, function):
            super().__init__()
            self.function = function

        def call(self, x):
            return self.function(x)

    def raised_to(power):
        answer = np.eye(16, 3, dtype=np.float32)
        layers = [keras.layers.Flatten(), Raised(lambda x: x**power @ answer)]
        return keras.Sequential([keras.Input((4, 4, 1)), *layers])

    marks = [mark(raised_to(power)) for power in (2, 2, 3)]
    assert marks[0] == marks[1] != marks[2]


def test_weights_and_settings_count():
    def of(slope, weight):
        layers = [keras.layers.Flatten(), keras.layers.LeakyReLU(slope), keras.layers.Dense(3)]
        model = keras.Sequential([keras.Input((4, 4, 1)), *layers])
        model.set_weights([np.full(w.shape, weight) for w in model.weights])
        return mark(model)

    assert of(0.1, 1.0) == of(0.1, 1.0)
    assert len({of(0.1, 1.0), of(0.2, 1.0), of(0.1, 2.0)}) == 3


def test_a_callable_is_known_by_its_answers_and_one_with_noise_never():
    def scaled(by):
        return lambda x: by * np.asarray(x).reshape(len(x), -1)[:, :3]

    marks = [mark(scaled(by)) for by in (1.0, 1.0, 2.0)]
    assert marks[0] == marks[1] != marks[2]

    numbers = np.random.default_rng(0)

    def noisy(x):
        return np.asarray(x).reshape(len(x), -1)[:, :3] + numbers.normal(size=(len(x), 3))

    assert mark(noisy) != mark(noisy)


def test_an_operation_that_is_called_as_an_activation_is_has_a_name_of_no_account():
    """Of the second model Keras calls it relu_1, and the activation relu still."""

    def made():
        return joined(lambda x, dense: keras.ops.relu(dense(x)))

    assert mark(made()) == mark(made())


def test_the_batch_that_a_model_was_first_called_with_is_of_no_account():
    def called_with(count):
        model = keras.Sequential(
            [
                keras.layers.Flatten(),
                keras.layers.Dense(3, bias_initializer="ones", kernel_initializer="ones"),
            ]
        )
        model(X[:count])
        return mark(model)

    assert called_with(2) == called_with(4)


class Given(keras.layers.Layer):
    def __init__(self, thing):
        super().__init__()
        self.thing = thing

    def call(self, x):
        return x

    def get_config(self):
        return {"thing": self.thing}


def test_the_address_of_an_object_is_of_no_account():
    def made():
        return joined(lambda x, dense: Given(object())(x))

    assert mark(made()) == mark(made())


def test_the_text_of_other_code_counts_where_its_noise_repeats_no_answer():
    class Noisy(keras.layers.Layer):
        def call(self, x):
            return x + tf.random.normal(tf.shape(x))

    first = Noisy

    class Noisy(keras.layers.Layer):
        def call(self, x):
            return 1 - x + tf.random.normal(tf.shape(x))

    marks = [mark(joined(lambda x, dense, kind=kind: kind()(x))) for kind in (first, first, Noisy)]
    assert marks[0] == marks[1] != marks[2]
