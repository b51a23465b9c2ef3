"""The order of targets, on linear logits of which the distances are known."""

import numpy as np
import pytest
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.attacks.eot import EOT
from pnil_tf.attacks.targets import by_gradients, by_logits

WEIGHTS = np.random.default_rng(0).normal(size=(16, 5)).astype(np.float32)
WEIGHTS[:, 4] *= 0.05  # a class that looks near by its logit and is far by its gradient
SEED = rng.make_seed(0)


def predict(x):
    return tf.reshape(x, [-1, 16]) @ WEIGHTS


def test_classes_come_by_their_logits(images):
    y = tf.argmax(predict(images), axis=1, output_type=tf.int32)
    order = by_logits(predict, tf.constant(images), y, SEED, EOT(), 4).numpy()
    expected = tf.argsort(predict(images), axis=1, direction="DESCENDING")[:, 1:].numpy()
    np.testing.assert_array_equal(order, expected)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_classes_come_by_the_way_to_their_boundaries(images, norm):
    logits = predict(images).numpy()
    y = logits.argmax(axis=1)
    order = by_gradients(
        predict, tf.constant(images), tf.constant(y, tf.int32), SEED, EOT(), 4, norm
    ).numpy()
    for label, targets, row in zip(y, order, logits, strict=True):
        others = [c for c in range(5) if c != label]
        normals = WEIGHTS[:, others] - WEIGHTS[:, [label]]
        lengths = np.linalg.norm(normals, ord=1 if norm == "linf" else 2, axis=0)
        distances = (row[label] - row[others]) / lengths
        assert targets.tolist() == [others[i] for i in np.argsort(distances)]


def test_the_label_is_no_target_and_few_classes_come_again(images):
    def two(x):
        return predict(x)[:, :2]

    y = tf.ones(len(images), tf.int32)
    for order in (
        by_logits(two, tf.constant(images), y, SEED, EOT(), 3),
        by_gradients(two, tf.constant(images), y, SEED, EOT(), 3, "linf"),
    ):
        np.testing.assert_array_equal(order, np.zeros((len(images), 3)))
