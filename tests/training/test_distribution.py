"""Several replicas train like one device, and draw noise of their own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.backbones import backbone
from pnil_tf.layers import PNILLayer
from pnil_tf.training.model import AdversarialModel
from pnil_tf.training.settings import DeviceSettings
from pnil_tf.training.strategy import is_chief, make_strategy


def train(strategy, x, y, attack="fgsm", pnil=False, steps_per_execution=1, epochs=2):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        layers = keras.layers
        inner = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                *([PNILLayer()] if pnil else []),
                layers.Conv2D(6, 3, strides=2, use_bias=False),
                layers.BatchNormalization(synchronized=True),
                layers.ReLU(),
                layers.Flatten(),
                layers.Dense(4),
            ]
        )
        # l2 steps follow the gradient continuously; signs would magnify rounding.
        model = AdversarialModel(
            inner, attack, 0.5, norm="l2", weight_averaging=0.9, epsilon_warmup_steps=15
        )
        model.compile(
            keras.optimizers.Adam(0.01),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            steps_per_execution=steps_per_execution,
        )
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(40)
    history = model.fit(data, epochs=epochs, validation_data=data, verbose=0).history
    return model, history


@pytest.mark.parametrize(
    ("attack", "steps_per_execution"),
    [
        ("fgsm", 1),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [("none", 1), ("fgsm", 5)]),
    ],
)
def test_two_replicas_match_one_device(blobs, two_replicas, attack, steps_per_execution):
    x, y = blobs
    one, history_one = train(tf.distribute.get_strategy(), x, y, attack)
    two, history_two = train(two_replicas, x, y, attack, steps_per_execution=steps_per_execution)
    for part in ("classifier", "average"):
        for a, b in zip(getattr(one, part).weights, getattr(two, part).weights, strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), atol=2e-4, err_msg=a.path)
    for name in ("loss", "val_loss", "val_adversarial_loss"):
        np.testing.assert_allclose(history_one[name], history_two[name], rtol=1e-3)


def test_training_figures_of_replicas_are_those_of_all_images(two_replicas):
    """Of five images in batches of four a replica sees two and one, the other two and none."""
    x, y = np.zeros((5, 8), np.float32), np.array([0, 1, 1, 1, 1], np.int32)
    with two_replicas.scope():
        classifier = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
        classifier.set_weights([np.zeros((8, 2)), np.array([2.0, 0.0])])  # all are of class 0
        model = AdversarialModel(classifier, "none", 0.1, pixel_range=(0, 1))
        model.compile(
            keras.optimizers.SGD(0.0),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    history = model.fit(data, epochs=1, verbose=0).history
    assert set(history) == {"loss", "accuracy"}
    assert history["accuracy"] == pytest.approx([1 / 5])
    assert history["loss"] == pytest.approx([np.log1p(np.exp(-2)) + 2 * 4 / 5], rel=1e-4)


@pytest.mark.slow
def test_a_network_of_keras_has_the_batch_statistics_of_one_device(two_replicas):
    """What one step of plain gradient descent leaves: of unsynchronized statistics another."""
    x = np.random.default_rng(0).random((8, 32, 32, 3)).astype(np.float32)
    y = np.arange(8, dtype=np.int32) % 3
    trained = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        with strategy.scope():
            keras.utils.set_random_seed(0)
            model = AdversarialModel(
                backbone("keras_applications:MobileNetV2", (32, 32, 3), 3), "none", 0.1
            )
            model.compile(
                keras.optimizers.SGD(0.01),
                keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            )
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
        model.fit(data, epochs=1, verbose=0)
        trained.append(model.classifier)
    for a, b in zip(*(model.weights for model in trained), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-3, err_msg=a.path)


@pytest.mark.slow
def test_fit_evaluate_and_predict_with_noise(blobs, two_replicas):
    x, y = blobs
    model, history = train(two_replicas, x, y, "nfgsm", pnil=True, epochs=4)
    assert history["loss"][-1] < history["loss"][0]
    assert set(model.evaluate(x, y, batch_size=40, verbose=0, return_dict=True)) == {
        "loss",
        "accuracy",
        "adversarial_loss",
        "adversarial_accuracy",
    }
    assert model.predict(x, batch_size=40, verbose=0).shape == (400, 4)


def test_replicas_draw_different_noise(two_replicas):
    strategy = two_replicas
    with strategy.scope():
        layer = PNILLayer()
        layer.build((None, 50))

    @tf.function
    def noise():
        def replica():
            with rng.noise_scope(rng.replica_seed(rng.make_seed(3))):
                return layer(tf.zeros((4, 50)))

        return strategy.run(replica)

    first, second = (value.numpy() for value in strategy.experimental_local_results(noise()))
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.3
    again = [value.numpy() for value in strategy.experimental_local_results(noise())]
    assert np.array_equal(first, again[0])
    assert np.array_equal(second, again[1])


def test_dropout_differs_between_replicas(two_replicas):
    strategy = two_replicas
    with strategy.scope():
        model = keras.Sequential([keras.Input((50,)), keras.layers.Dropout(0.5)])

    @tf.function
    def masks():
        def replica():
            rng.reseed_layers(model, rng.replica_seed(rng.make_seed(3)))
            return model(tf.ones((4, 50)), training=True)

        return strategy.run(replica)

    first, second = (value.numpy() for value in strategy.experimental_local_results(masks()))
    assert 0.3 < np.mean((first > 0) != (second > 0)) < 0.7


def test_one_device_needs_no_strategy():
    strategy = make_strategy(DeviceSettings())
    assert strategy.num_replicas_in_sync == 1
    assert is_chief(strategy)
