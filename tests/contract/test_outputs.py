"""Averaged, flipped and stacked probabilities are not taken for logits."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf.attacks.one_step import StepAttack
from pnil_tf.contract.classifier import classifier_of
from pnil_tf.errors import UserError
from pnil_tf.training.model import AdversarialModel

D, L, ops = keras.layers, keras.losses, keras.ops
ATTACK = StepAttack(0.1, 0.1)


def model_of(head):
    images = keras.Input((8, 8, 1))
    return keras.Model(images, head(images))


def dense(count, activation=None):
    return lambda x: D.Dense(count, activation=activation)(D.Flatten()(x))


def shares(evidence):
    return evidence / ops.sum(evidence, axis=1, keepdims=True)


SOFTMAX, SIGMOID = dense(3, "softmax"), dense(1, "sigmoid")
OPEN = {  # one number or several, of which nothing tells what they are
    "flipped sigmoid": lambda x: 1.0 - SIGMOID(x),
    "pooled sigmoid": lambda x: D.GlobalAveragePooling2D()(D.Conv2D(1, 3, activation="sigmoid")(x)),
    "by hand": lambda x: 1.0 / (1.0 + ops.exp(-dense(1)(x))),
    "hard sigmoid": dense(1, "hard_sigmoid"),
    "half of a tangent": lambda x: (dense(1, "tanh")(x) + 1.0) / 2.0,
    "at least a half": lambda x: ops.maximum(SIGMOID(x), 0.9995),
    "concatenated": lambda x: D.Concatenate()([SIGMOID(x), dense(1, "sigmoid")(x)]),
    "largest": lambda x: D.GlobalMaxPooling2D()(D.Conv2D(3, 3, activation="sigmoid")(x)),
}
PROBABILITIES = {
    "mean of a stack": lambda x: ops.mean(ops.stack([SOFTMAX(x), dense(3, "softmax")(x)]), 0),
    "weighted": lambda x: 0.5 * SOFTMAX(x) + 0.5 * dense(3, "softmax")(x),
    "average": lambda x: D.Average()([SOFTMAX(x), dense(3, "softmax")(x)]),
    "pooled softmax": lambda x: D.GlobalAveragePooling2D()(D.Conv2D(3, 3, activation="softmax")(x)),
    "clipped": lambda x: ops.clip(SOFTMAX(x), 1e-7, 1.0),
    "shares of evidence": lambda x: shares(D.Dense(3, activation="softplus")(D.Flatten()(x))),
    "rectified": lambda x: D.ReLU()(SOFTMAX(x)),
    "mixed by a matrix": lambda x: ops.matmul(SOFTMAX(x), np.full((3, 3), 1 / 3, np.float32)),
}
LOGITS = {
    "mean of a stack": lambda x: ops.mean(ops.stack([dense(3)(x), dense(3)(x)]), 0),
    "pooled": lambda x: D.GlobalAveragePooling2D()(D.Conv2D(3, 3)(x)),
    "cooled": lambda x: dense(3)(x) / 2.0,
    "stacked on probabilities": lambda x: D.Dense(3)(SOFTMAX(x)),
    "all zero": lambda x: D.Dense(3, kernel_initializer="zeros")(D.Flatten()(x)),
}


@pytest.mark.parametrize("name", PROBABILITIES)
def test_mixtures_of_probabilities_are_probabilities(name):
    model = model_of(PROBABILITIES[name])
    assert classifier_of(model).outputs.kind == "probabilities"
    with pytest.raises(UserError, match="expects logits"):
        AdversarialModel(model, ATTACK).compile(
            "sgd", L.SparseCategoricalCrossentropy(from_logits=True)
        )
    AdversarialModel(model, ATTACK).compile("sgd", L.SparseCategoricalCrossentropy())


@pytest.mark.parametrize("name", LOGITS)
def test_mixtures_of_logits_are_logits(name):
    assert classifier_of(model_of(LOGITS[name])).outputs.kind == "logits"


@pytest.mark.parametrize("name", OPEN)
def test_what_nothing_tells_is_asked_for(name):
    model = model_of(OPEN[name])
    with pytest.raises(UserError, match=r"Nothing tells whether.*Say which: outputs="):
        classifier_of(model)
    kind = "one probability" if model.output_shape[1] == 1 else "independent probabilities"
    assert classifier_of(model, outputs=kind).outputs.kind == kind
    # A loss of probabilities tells, one of logits may be the mistake.
    adversarial = AdversarialModel(model, ATTACK)
    adversarial.compile("sgd", L.BinaryCrossentropy())
    assert adversarial._look((8, 8, 1)).outputs.kind == kind
    with pytest.raises(UserError, match="Nothing tells"):
        AdversarialModel(model, ATTACK).compile("sgd", L.BinaryCrossentropy(from_logits=True))


def test_what_the_user_says_is_kept_with_the_model_and_must_be_possible():
    model = AdversarialModel(model_of(OPEN["by hand"]), ATTACK, outputs="one probability")
    again = AdversarialModel.from_config(model.get_config())
    assert again.given_outputs == "one probability"
    for kind, words in [("logits", "ends in a softmax"), ("one logit", "ends in a softmax")]:
        with pytest.raises(UserError, match=words):
            classifier_of(model_of(SOFTMAX), outputs=kind)
    with pytest.raises(UserError, match="has 3 outputs"):
        classifier_of(model_of(dense(3)), outputs="one logit")
    with pytest.raises(UserError, match="lie between 0 and 1"):
        classifier_of(model_of(dense(3)), outputs="probabilities")


def test_a_clip_that_hardly_clips_is_looked_through():
    outputs = classifier_of(model_of(PROBABILITIES["clipped"])).outputs
    assert outputs.exact
    strong = classifier_of(model_of(lambda x: ops.clip(SIGMOID(x), 0.2, 0.8)), outputs="one logit")
    assert strong.outputs.kind == "one logit"


def test_the_loss_by_its_probabilities_is_what_is_trained():
    x = np.random.default_rng(0).random((32, 8, 8, 1)).astype(np.float32)
    model = AdversarialModel(model_of(OPEN["flipped sigmoid"]), ATTACK)
    model.compile("sgd", "binary_crossentropy")
    model.fit(x, np.resize([0, 1], 32), verbose=0)


def test_logits_that_the_graph_does_not_show_are_warned_of():
    hidden = tf.function(tf.nn.softmax)

    class Hidden(D.Layer):
        def call(self, x):
            return hidden(x)

    model = AdversarialModel(model_of(lambda x: Hidden()(dense(3)(x))), ATTACK)
    with pytest.warns(UserWarning, match="not to be seen"):
        model.compile("sgd", L.SparseCategoricalCrossentropy())
