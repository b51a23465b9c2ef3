"""What must hold before a figure means anything: gradients, answers by themselves, fresh noise."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf.contract.checks import (
    check_each_alone,
    check_input_gradient,
    check_noise,
    has_input_gradient,
    tries,
)
from pnil_tf.contract.classifier import classifier_of, random_images
from pnil_tf.errors import UserError
from pnil_tf.layers import PNILLayer

D = keras.layers


def model(*first, dtype="float32", **last):
    return keras.Sequential(
        [keras.Input((8, 8, 1), dtype=dtype), *first, D.Flatten(), D.Dense(3, **last)]
    )


def nearly_dead():
    """Has a slope only where the mean of the pixels is between 0.25 and 0.35."""
    built = model(D.Flatten(), D.Dense(1, activation="relu"), D.Dense(1, activation="relu"))
    built.set_weights(
        [
            *(np.full((64, 1), 1 / 64), np.array([-0.25])),
            *(np.array([[-10.0]]), np.ones(1)),
            *(np.array([[1.0, -1.0, 0.5]]), np.zeros(3)),
        ]
    )
    return built


@keras.saving.register_keras_serializable(package=__name__)
class NumPyNoise(D.Layer):
    def call(self, x):
        return x + np.random.default_rng().normal(size=x.shape[1:]).astype(np.float32)


class RoundsInTraining(D.Layer):
    def call(self, x, training=False):
        return tf.round(255 * x) / 255 if training else x


@keras.saving.register_keras_serializable(package=__name__)
class TensorFlowNoise(D.Layer):
    def call(self, x):
        return x + tf.random.normal(tf.shape(x))


@keras.saving.register_keras_serializable(package=__name__)
class BatchMean(D.Layer):
    def call(self, x):
        return x - keras.ops.mean(x, axis=0, keepdims=True)


SOUND = {
    "plain": lambda: model(),
    "softmax": lambda: model(activation="softmax"),
    "zeros": lambda: model(kernel_initializer="zeros"),
    "pnil": lambda: model(PNILLayer()),
    "dropout": lambda: model(D.Dropout(0.5), D.GaussianNoise(0.1)),
    "batch norm": lambda: model(D.BatchNormalization(), D.Conv2D(4, 3, activation="relu")),
    "noise": lambda: model(TensorFlowNoise()),
}


@pytest.mark.parametrize("name", SOUND)
def test_an_ordinary_model_passes(name):
    classifier = classifier_of(SOUND[name]())
    images = random_images((8, 8, 1))
    check_input_gradient(classifier, images)
    check_each_alone(classifier, images)
    check_noise(classifier, images)
    check_noise(classifier, images, training=True)


def test_a_network_that_has_all_but_collapsed_passes():
    images = np.ones((2, 8, 8, 1), np.float32) * np.reshape([0.2, 0.4], (2, 1, 1, 1))
    classifier = classifier_of(nearly_dead())
    _, unlike = classifier.predict(images).numpy() - classifier.predict(images[:1]).numpy()
    assert np.any(unlike)
    assert not has_input_gradient(classifier, images)
    check_input_gradient(classifier, images)


@pytest.mark.parametrize(
    "make",
    [
        lambda: model(D.Lambda(lambda x: tf.round(255 * x) / 255)),
        lambda: model(D.Lambda(lambda x: tf.cast(tf.cast(255 * x, tf.int32), tf.float32))),
        lambda: model(D.Lambda(lambda x: tf.sign(x - 0.5))),
        lambda: model(D.Rescaling(255.0), D.Reshape((64,)), D.Embedding(256, 2)),
        lambda: model(D.Rescaling(1 / 255), dtype="uint8"),
        lambda: model(D.Resizing(4, 4, interpolation="area")),
    ],
    ids=["round", "cast", "sign", "embedding", "uint8", "area"],
)
def test_a_model_without_an_input_gradient_is_refused(make):
    with pytest.raises(UserError, match="no gradient with respect to the pixels"):
        check_input_gradient(classifier_of(make()), random_images((8, 8, 1)))


def test_a_model_that_mixes_images_is_refused():
    with pytest.raises(UserError, match="depends on the other images"):
        check_each_alone(classifier_of(model(BatchMean())), random_images((8, 8, 1)))


@pytest.mark.parametrize("other", [TensorFlowNoise, lambda: D.GaussianNoise(0.1)])
def test_frozen_noise_is_not_hidden_by_other_noise(other):
    for layers in ([NumPyNoise(), other()], [other(), NumPyNoise()]):
        with pytest.raises(UserError, match="repeats it every time"):
            check_noise(classifier_of(model(*layers)), random_images((8, 8, 1)))


def seldom_negative():
    """A classifier that takes one batch in ten for its negative."""

    class Seldom(D.Layer):
        def call(self, x):
            return tf.where(tf.random.uniform(()) < 0.1, 1 - x, x)

    tf.random.set_seed(0)
    return classifier_of(model(Seldom()))


def test_rare_noise_of_a_whole_batch_is_noise():
    found, images = seldom_negative(), random_images((8, 8, 1), 4)
    assert found.draws
    assert check_noise(found, images)
    assert not check_each_alone(found, images)


@pytest.mark.parametrize(
    "layer", [D.Dropout(0.5), D.RandomFlip(), D.RandomSharpness(0.5, (0, 1)), PNILLayer()]
)
def test_random_layers_that_rest_are_tried_no_oftener(layer):
    assert tries(classifier_of(model(layer)), 1) == 1


def test_rare_noise_in_training_alone_is_noise():
    class SeldomInTraining(D.Layer):
        def call(self, x, training=False):
            negative = tf.random.uniform(()) < 0.1 if training else False
            return tf.where(negative, 1 - x, x)

    tf.random.set_seed(0)
    found, images = classifier_of(model(SeldomInTraining())), random_images((8, 8, 1), 4)
    assert not check_noise(found, images)
    assert check_noise(found, images, training=True)


@pytest.mark.parametrize("how", [keras.random.normal, tf.random.normal, tf.random.uniform])
def test_what_draws_is_seen_in_a_loop_too(how):
    class Looped(D.Layer):
        def call(self, x):
            return tf.map_fn(lambda image: image + how((8, 8, 1)), x)

    assert classifier_of(model(Looped())).draws


@pytest.mark.parametrize(
    "layer", [RoundsInTraining, lambda: D.RandomPosterization(4, value_range=(0, 1))]
)
def test_what_has_no_gradient_in_training_alone_is_refused(layer):
    classifier = classifier_of(model(layer()))
    check_input_gradient(classifier, random_images((8, 8, 1)))
    with pytest.raises(UserError, match="answers in training have no gradient"):
        check_input_gradient(classifier, random_images((8, 8, 1)), training=True)


def test_noise_that_tracing_freezes_is_refused():
    with pytest.raises(UserError, match="repeats it every time"):
        check_noise(classifier_of(model(NumPyNoise())), random_images((8, 8, 1)))
