"""Models of other people get noise, are hardened, and are served: all with their weights kept."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from served_models import SHAPE, load, sequential

from pnil_tf import rng
from pnil_tf.serving.saved_model import export_saved_model
from pnil_tf.surgery import add_pnil
from pnil_tf.training.model import AdversarialModel

SIGMA = {"bias_initializer": keras.initializers.Constant(-4.0), "name": "noise"}


@keras.saving.register_keras_serializable(package=__name__)
class Foreign(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.flatten = keras.layers.Flatten()
        self.head = keras.layers.Dense(4)

    def call(self, x):
        return self.head(self.flatten(x))


def subclassed():
    model = Foreign()
    model(tf.zeros([1, *SHAPE]))
    return model


def mobile_net():
    model = keras.applications.MobileNetV2(
        weights=None, input_shape=(32, 32, 3), alpha=0.35, classes=4, classifier_activation=None
    )
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # a few steps must do, or its 52 layers would let nothing through
    return model


@pytest.mark.parametrize(
    ("make", "before", "shape"),
    [
        pytest.param(mobile_net, None, (32, 32, 3), marks=pytest.mark.slow),
        pytest.param(mobile_net, "block_1_expand", (32, 32, 3), marks=pytest.mark.slow),
        pytest.param(sequential, "scores", SHAPE, marks=pytest.mark.slow),
        (subclassed, None, SHAPE),
    ],
    ids=["application", "within it", "sequential", "subclassed"],
)
def test_add_pnil_train_export(make, before, shape, tmp_path):
    model = make()
    x = np.random.default_rng(0).random((8, *shape), np.float32)
    hardened = add_pnil(model, before=before, **SIGMA)
    with rng.noise_off():
        np.testing.assert_allclose(hardened(x), model(x), atol=1e-5)
    trained = AdversarialModel(hardened, "nfgsm", 8 / 255, validation_attack="none")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trained.compile(keras.optimizers.SGD(1e-3), loss)
    trained.fit(x, np.arange(8) % 4, batch_size=4, epochs=1, verbose=0)
    served = load(export_saved_model(trained, tmp_path / "1"))
    answers = [served["serving_default"](images=tf.constant(x))["logits"] for _ in range(2)]
    assert not np.isclose(*answers).all(axis=1).any()
    with rng.noise_scope(3, frozen=True):
        expected = hardened(x, training=False)
    seeded = served["seeded"](images=tf.constant(x), seed=tf.constant(3, tf.int64))["logits"]
    np.testing.assert_allclose(seeded, expected, atol=1e-4, rtol=1e-4)
