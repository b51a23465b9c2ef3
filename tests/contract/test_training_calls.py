"""Layers that a plain call of a model puts into training."""

import keras
import numpy as np
import pytest

from pnil_tf.contract.training_calls import called_to_train

layers = keras.layers
SHAPE = (4, 4, 1)
X = np.ones((2, *SHAPE), np.float32)


def monte_carlo():
    inputs = keras.Input(SHAPE)
    inner = layers.Dropout(0.5, name="drop")(layers.Flatten()(inputs), training=True)
    quiet = layers.Dropout(0.5)(inner, training=False)
    return keras.Model(inputs, layers.Dense(3)(layers.Dropout(0.5)(quiet)))


class Deaf(layers.Layer):
    """Takes no `training`, and so hands on that of whatever it is within, if anything."""

    def __init__(self):
        super().__init__()
        self.inner = monte_carlo()

    def call(self, x):
        return self.inner(x)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.inputs, self.inner = 3, monte_carlo()

    def call(self, x, training=None):
        return self.inner(x)


@pytest.mark.parametrize(
    "model",
    [
        monte_carlo,
        lambda: keras.Sequential([keras.Input(SHAPE), monte_carlo(), layers.Softmax()]),
        lambda: keras.Sequential([keras.Input(SHAPE), Deaf()]),
        Subclassed,
    ],
    ids=["itself", "nested", "within a layer", "within a subclass"],
)
def test_a_layer_called_to_train_is_found_and_predict_takes_it_back(model):
    model = model()
    assert np.ptp([np.asarray(model(X)) for _ in range(4)], axis=0).max() > 0
    assert np.ptp([np.asarray(model(X, training=False)) for _ in range(4)], axis=0).max() == 0
    assert called_to_train(model) == ("'drop' (Dropout)",)


def test_what_takes_no_training_keeps_its_noise_when_it_predicts():
    model = Deaf()
    assert np.ptp([np.asarray(model(X)) for _ in range(4)], axis=0).max() > 0
    assert called_to_train(model) == ()


def test_nothing_is_found_where_nothing_was_called_so():
    assert called_to_train(keras.Sequential([keras.Input(SHAPE), layers.Dropout(0.5)])) == ()
    assert called_to_train(lambda x: x) is None


def test_what_keras_trains_by_default_is_found_where_it_is_random():
    crop, flip = layers.CenterCrop(2, 2), layers.RandomFlip(name="flip")
    model = keras.Sequential([keras.Input(SHAPE), crop, flip])
    assert called_to_train(model) == ("'flip' (RandomFlip)",)
    x = np.random.default_rng(0).random((8, *SHAPE), np.float32)
    assert np.ptp([np.asarray(model(x)) for _ in range(8)], axis=0).max() > 0
    assert np.ptp([model.predict(x, verbose=0) for _ in range(4)], axis=0).max() == 0
