"""What a recipe changes in a training step: the labels, and the images that are seen."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf.errors import UserError
from pnil_tf.training.model import AdversarialModel

losses = keras.losses


def first_loss(x, y, loss, activation=None, classes=4, **recipe):
    """The training loss of the first step on unperturbed images."""
    keras.utils.set_random_seed(3)
    classifier = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(classes, activation=activation),
        ]
    )
    model = AdversarialModel(classifier, "none", **recipe)
    model.compile("sgd", loss)
    return float(model.train_on_batch(x, y))


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_smoothed_labels_give_the_loss_that_keras_gives(blobs, activation):
    x, y = blobs[0], blobs[1]
    logits = activation is None
    rows = tf.one_hot(y, 4)
    keras_own = losses.CategoricalCrossentropy(logits, label_smoothing=0.3)
    expected = first_loss(x, rows, keras_own, activation)
    sparse = losses.SparseCategoricalCrossentropy(logits)
    assert np.isclose(first_loss(x, y, sparse, activation, label_smoothing=0.3), expected)
    one_hot = losses.CategoricalCrossentropy(logits)
    assert np.isclose(first_loss(x, rows, one_hot, activation, label_smoothing=0.3), expected)
    assert not np.isclose(first_loss(x, y, sparse, activation), expected, rtol=0.02)


def test_the_label_of_one_output_is_smoothed(blobs):
    x, y = blobs[0], (blobs[1] % 2).astype("float32")[:, None]
    expected = first_loss(x, y, losses.BinaryCrossentropy(True, label_smoothing=0.3), classes=1)
    found = first_loss(x, y, losses.BinaryCrossentropy(True), classes=1, label_smoothing=0.3)
    assert np.isclose(found, expected)


def test_losses_whose_labels_cannot_be_smoothed_are_refused(blobs):
    x, y = blobs
    with pytest.raises(UserError, match="cross-entropies"):
        first_loss(x, y, losses.CategoricalHinge(), label_smoothing=0.3)
    summed = losses.SparseCategoricalCrossentropy(True, reduction="sum")
    with pytest.raises(UserError, match="averaged over the batch"):
        first_loss(x, y, summed, label_smoothing=0.3)
    with pytest.raises(UserError, match="sigmoid for each"):
        first_loss(
            x,
            tf.one_hot(y, 4),
            losses.BinaryCrossentropy(),
            activation="sigmoid",
            label_smoothing=0.3,
        )


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"weight_averaging": 1.0}, "below 1"),
        ({"label_smoothing": 1.5}, "between 0 and 1"),
        ({"consistency": -1.0}, "at least 0"),
        ({"augment": "mirror"}, "flip_crop"),
    ],
)
def test_values_that_no_recipe_has_are_refused(recipe, words):
    classifier = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    with pytest.raises(UserError, match=words):
        AdversarialModel(classifier, "none", **recipe)


def test_views_are_of_the_step_and_filled_with_the_darkest_pixel(blobs):
    """A classifier that only counts the pixels of the border shows what was shifted in."""
    x = np.full((200, 16, 16, 1), 255.0, np.float32)
    y = np.zeros(200, np.int32)
    seen = []

    class Watch(keras.layers.Layer):
        def call(self, images, training=False):
            if training and not tf.executing_eagerly():
                tf.py_function(lambda batch: seen.append(batch.numpy()), [images], [])
            return images

    classifier = keras.Sequential(
        [
            keras.Input((16, 16, 1)),
            Watch(),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    model = AdversarialModel(classifier, "none", augment="shift")
    model.compile("sgd", losses.SparseCategoricalCrossentropy(True))
    model.fit(x, y, batch_size=200, epochs=2, verbose=0)
    first, second = (batch[..., 0] for batch in seen[-2:])
    for batch in (first, second):
        assert set(np.unique(batch)) == {0.0, 255.0}
        assert 0.2 < (batch[:, 0] == 0).all(axis=-1).mean() < 0.6  # 2 of 5 shifts move down
    assert not np.array_equal(first, second)


def test_consistency_is_the_squared_distance_that_the_logits_of_a_linear_model_move(blobs):
    """FGSM starts at the image: logits move by epsilon times the weights' sum of signs."""
    x, y = 0.25 + 0.5 * blobs[0], blobs[1]
    epsilon = 0.05  # no pixel meets the end of the range
    keras.utils.set_random_seed(3)
    classifier = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    kernel = classifier.layers[-1].kernel.numpy()
    y = y % 2

    def first(**recipe):
        model = AdversarialModel(classifier, "fgsm", epsilon, **recipe)
        model.compile("sgd", losses.SparseCategoricalCrossentropy(True))
        classifier.layers[-1].kernel.assign(kernel)
        classifier.layers[-1].bias.assign([0.0, 0.0])
        return float(model.train_on_batch(x, y))

    # Of two classes the loss rises along the other's weights less the true one's.
    steps = epsilon * np.sign(kernel[:, 1] - kernel[:, 0]) @ kernel
    expected = 3.0 * np.mean(steps**2)  # the same for both classes, which move oppositely
    assert np.isclose(first(consistency=3.0) - first(), expected, rtol=1e-3)
    mixed = first(consistency=3.0, clean_weight=0.25) - first(clean_weight=0.25)
    assert np.isclose(mixed, 0.75 * expected, rtol=1e-3)
