"""Every image that can be attacked is: no loss and no confidence takes an attack its direction."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf.attacks.one_step import StepAttack
from pnil_tf.errors import UserError
from pnil_tf.training.model import AdversarialModel

D, L = keras.layers, keras.losses
X = np.random.default_rng(0).random((32, 8, 8, 1)).astype(np.float32)
ATTACK = StepAttack(0.1, 0.1)


def classifier(count, activation, scale, policy="float32"):
    dense = D.Dense(count, use_bias=False, dtype=policy)
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), D.Flatten(), dense, D.Activation(activation, dtype=policy)]
    )
    kernel = np.random.default_rng(1).normal(size=(64, count))
    dense.set_weights([scale * (kernel - kernel.mean(0))])
    return model


def attacked(model, loss, labels, **kwargs):
    """The images under one step of the training's attack."""
    adversarial = AdversarialModel(model, ATTACK, validation_attack=ATTACK)
    adversarial.compile("sgd", loss, **kwargs)

    def craft(x, y, seed):
        return adversarial._craft_for_training(x, y, seed, ATTACK)[0]

    if not kwargs.get("run_eagerly"):
        craft = tf.function(craft, autograph=False)
    return craft(tf.constant(X), tf.constant(labels), tf.constant([0, 1])).numpy()


@pytest.mark.parametrize("scale", [1.0, 40.0, 300.0])
@pytest.mark.parametrize(
    ("count", "activation", "loss"),
    [
        (3, "softmax", L.CategoricalFocalCrossentropy()),
        (3, "softmax", L.MeanSquaredError()),
        (3, "softmax", L.CategoricalCrossentropy()),
        (1, "sigmoid", L.BinaryFocalCrossentropy()),
        (1, "sigmoid", L.MeanSquaredError()),
        (1, "sigmoid", L.BinaryCrossentropy()),
    ],
)
def test_an_image_is_attacked_however_sure_the_classifier_is(count, activation, loss, scale):
    model = classifier(count, activation, scale)
    kernel = model.weights[0].numpy()
    logits = X.reshape(32, 64) @ kernel
    ranked = np.argsort(logits, axis=1)
    if count == 1:
        labels = (logits > 0).astype(np.float32)
        away = kernel[:, 0] * (1 - 2 * labels)
    else:
        labels = np.eye(3, dtype=np.float32)[ranked[:, -1]]
        away = (kernel[:, ranked[:, -2]] - kernel[:, ranked[:, -1]]).T
    moved = (attacked(model, loss, labels) - X).reshape(32, 64)
    assert (np.abs(moved).max(1) > 0.09).all()
    assert ((moved * away).sum(1) > 0).all()


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_eager_steps_in_low_precision_attack_as_graphs_do(activation):
    count = 3 if activation == "softmax" else 1
    loss = L.SparseCategoricalCrossentropy() if count == 3 else L.BinaryCrossentropy()
    labels = np.random.default_rng(2).integers(0, max(count, 2), 32)

    def moved(**kwargs):
        model = classifier(count, activation, 300.0, "mixed_float16")
        model = keras.Model(model.inputs, D.Activation("linear", dtype="float32")(model.outputs[0]))
        return attacked(model, loss, labels, **kwargs) - X

    eager = moved(run_eagerly=True)
    assert (np.abs(eager).max((1, 2, 3)) > 0).all()
    np.testing.assert_array_equal(np.sign(eager), np.sign(moved()))


@pytest.mark.parametrize(
    "loss",
    [
        lambda y, p: keras.ops.cast(keras.ops.argmax(p, -1) != keras.ops.argmax(y, -1), "float32"),
        lambda y, p: keras.ops.mean(y, axis=-1),
        lambda y, p: keras.ops.mean(keras.ops.abs(y - keras.ops.round(p)), axis=-1),
    ],
)
def test_a_loss_without_a_slope_is_refused(loss):
    with pytest.raises(UserError, match="has no slope"):
        AdversarialModel(classifier(3, "softmax", 1.0), ATTACK).compile("sgd", loss)


def test_the_cosine_of_one_output_is_refused():
    with pytest.raises(UserError, match="a cosine, and that of single numbers"):
        AdversarialModel(classifier(1, "sigmoid", 1.0), ATTACK).compile("sgd", L.CosineSimilarity())
