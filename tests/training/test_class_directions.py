"""A training keeps a direction for each class, renews it, and starts its attack from it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf.errors import UserError
from pnil_tf.training.checkpoints import TrainingCheckpoints
from pnil_tf.training.labels import Labels
from pnil_tf.training.model import AdversarialModel


def linear(classes=2):
    return keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(classes)]
    )


def directions(classifier):
    """Of a linear classifier of two classes."""
    kernel = classifier.layers[-1].kernel.numpy()
    apart = np.sign(kernel[:, 1] - kernel[:, 0]).reshape(8, 8, 1)
    return np.stack([apart, -apart])


def test_directions_are_renewed_every_twenty_steps(blobs):
    x, y = blobs[0][:40], blobs[1][:40] % 2
    classifier = linear()
    model = AdversarialModel(classifier, "liet", 0.1, validation_attack="none")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(5.0), loss)
    before, kept = [], []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            before.append(directions(classifier))

        def on_train_batch_end(self, batch, logs=None):
            kept.append(model.directions.signs.numpy())

    model.fit(x, y, batch_size=40, epochs=22, verbose=0, callbacks=[Watch()])
    assert not np.array_equal(before[0], before[20])
    for step, signs in enumerate(kept):
        assert np.array_equal(signs, before[step - step % 20])


def test_a_checkpoint_keeps_directions_and_averages(tmp_path):
    def fresh():
        model = AdversarialModel(linear(), "liet", 0.1, weight_averaging=0.9)
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model, TrainingCheckpoints(tmp_path, model)

    model, checkpoints = fresh()
    state = [model.directions.signs, *model.average.averages]
    for i, variable in enumerate(state):
        variable.assign(np.full(variable.shape, i + 1.0))
    checkpoints.save({"step": 7}, 7)
    other, checkpoints = fresh()
    assert checkpoints.restore() == {"step": 7}
    for i, variable in enumerate([other.directions.signs, *other.average.averages]):
        assert (variable.numpy() == i + 1.0).all()


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_probabilities_and_rows_of_labels_are_trained_on_too(blobs, run_eagerly):
    x, y = blobs
    classifier = keras.Sequential([*linear(4).layers, keras.layers.Softmax()])
    classifier.build((None, 8, 8, 1))
    model = AdversarialModel(classifier, "liet", 0.1, validation_attack="none")
    model.compile("adam", "categorical_crossentropy", run_eagerly=run_eagerly)
    model.fit(x, tf.one_hot(y, 4), batch_size=200, epochs=1, verbose=0)
    assert set(np.unique(model.directions.signs)) <= {-1.0, 0.0, 1.0}
    assert np.abs(model.directions.signs).mean() > 0.9


def test_one_label_of_each_class_has_the_form_of_the_others():
    cases = [
        (Labels(3, "sparse_categorical_crossentropy"), [2, 0], [0, 1, 2]),
        (Labels(3, "categorical_crossentropy"), [[0.0, 1.0, 0.0]], np.eye(3)),
        (Labels(3, "categorical_hinge"), [[0.0, 1.0, 0.0]], np.eye(3)),
        (Labels(1, "binary_crossentropy"), [[1.0]], [[0], [1]]),
        (Labels(1, "hinge"), [1.0], [-1, 1]),
    ]
    for labels, like, expected in cases:
        found = labels.of_each_class(tf.constant(like))
        assert np.array_equal(found, expected)
        assert found.dtype == tf.constant(like).dtype


def test_images_of_open_size_are_refused():
    layers = keras.layers
    classifier = keras.Sequential(
        [keras.Input((None, None, 1)), layers.GlobalAveragePooling2D(), layers.Dense(2)]
    )
    with pytest.raises(UserError, match="one size"):
        AdversarialModel(classifier, "liet", 0.1)
