"""Every output x every loss x every container x every range: the figures of a computation by hand.

By hand is: the same weights as logits of images in [0, 1], the loss in the form that takes logits,
one step of the gradient's sign.
"""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf.attacks.one_step import StepAttack
from pnil_tf.contract.pixel_range import BYTES, SIGNED, UNIT
from pnil_tf.training.model import AdversarialModel

D, L = keras.layers, keras.losses
EPSILON = 0.1
COUNT = 48
GENERATOR = np.random.default_rng(3)
UNIT_IMAGES = GENERATOR.random((COUNT, 4, 4, 1)).astype(np.float32)
KERNEL = {count: GENERATOR.normal(size=(16, count)).astype(np.float32) for count in (1, 3)}


def labels_of(count):
    noisy = UNIT_IMAGES.reshape(COUNT, 16) @ KERNEL[count]
    if count == 1:
        return (noisy[:, 0] > np.median(noisy)).astype(np.int32)
    return noisy.argmax(1).astype(np.int32)


def in_graph(function):
    """As the last operation of a functional model, not a layer."""
    return lambda x: function(x)


HEADS = {
    "logits": (3, list),
    "dense": (3, lambda: ["softmax"]),
    "activation": (3, lambda: [D.Activation("softmax")]),
    "softmax": (3, lambda: [D.Softmax()]),
    "ops": (3, lambda: [in_graph(keras.ops.softmax)]),
    "linear behind": (3, lambda: [D.Softmax(), D.Activation("linear", dtype="float32")]),
    "one logit": (1, list),
    "one probability": (1, lambda: ["sigmoid"]),
    "one probability, linear behind": (1, lambda: [D.Activation("sigmoid"), D.Identity()]),
    "sigmoids": (3, lambda: ["sigmoid"]),
}
SOFTMAXES = ("dense", "activation", "softmax", "ops", "linear behind")


def classifier(head, pixel_range=UNIT):
    count, make = HEADS[head]
    images = keras.Input((4, 4, 1))
    x = images
    if pixel_range != UNIT:
        x = D.Rescaling(1 / pixel_range.width, -pixel_range.low / pixel_range.width)(x)
    x = D.Flatten()(x)
    steps = make()
    activation = steps.pop(0) if steps and isinstance(steps[0], str) else None
    dense = D.Dense(count, activation=activation, use_bias=False)
    x = dense(x)
    for step in steps:
        x = step(x)
    dense.set_weights([KERNEL[count]])
    return keras.Model(images, x)


# (loss of probabilities, the same of logits, whether its labels are one-hot)
SEVERAL = {
    "sparse": (
        L.SparseCategoricalCrossentropy(),
        L.SparseCategoricalCrossentropy(from_logits=True),
        False,
    ),
    "sparse by name": (
        "sparse_categorical_crossentropy",
        L.SparseCategoricalCrossentropy(from_logits=True),
        False,
    ),
    "crossentropy": ("crossentropy", L.SparseCategoricalCrossentropy(from_logits=True), False),
    "categorical": (
        L.CategoricalCrossentropy(),
        L.CategoricalCrossentropy(from_logits=True),
        True,
    ),
    "categorical by name": (
        "categorical_crossentropy",
        L.CategoricalCrossentropy(from_logits=True),
        True,
    ),
    "smoothed": (
        L.CategoricalCrossentropy(label_smoothing=0.2),
        L.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2),
        True,
    ),
    "focal": (
        L.CategoricalFocalCrossentropy(),
        L.CategoricalFocalCrossentropy(from_logits=True),
        True,
    ),
    "squared error": (L.MeanSquaredError(), None, True),
    "mse by name": ("mse", None, True),
    "divergence": (L.KLDivergence(), None, True),
    "generalized": (L.CategoricalGeneralizedCrossEntropy(), None, False),
    "poisson": (L.Poisson(), None, True),
    "a function": (lambda y, p: keras.ops.sum((y - p) ** 2, axis=-1), None, True),
}
BINARY = {
    "binary": (L.BinaryCrossentropy(), L.BinaryCrossentropy(from_logits=True), False),
    "binary by name": ("binary_crossentropy", L.BinaryCrossentropy(from_logits=True), False),
    "smoothed": (
        L.BinaryCrossentropy(label_smoothing=0.2),
        L.BinaryCrossentropy(from_logits=True, label_smoothing=0.2),
        False,
    ),
    "focal": (L.BinaryFocalCrossentropy(), L.BinaryFocalCrossentropy(from_logits=True), False),
    "squared error": (L.MeanSquaredError(), None, False),
    "a function": (lambda y, p: keras.ops.mean((y - p) ** 2, axis=-1), None, False),
}
OF_LOGITS = {
    "logits": {name: (row[1], row[1], row[2]) for name, row in SEVERAL.items() if row[1]},
    "one logit": {
        **{name: (row[1], row[1], row[2]) for name, row in BINARY.items() if row[1]},
        "hinge": (L.Hinge(), L.Hinge(), False),
        "squared hinge": ("squared_hinge", L.SquaredHinge(), False),
    },
}
SIGMOIDS = {
    "binary": (L.BinaryCrossentropy(), L.BinaryCrossentropy(from_logits=True), True),
    "focal": (L.BinaryFocalCrossentropy(), L.BinaryFocalCrossentropy(from_logits=True), True),
}


def losses_of(head):
    if head in OF_LOGITS:
        return OF_LOGITS[head]
    if head == "sigmoids":
        return SIGMOIDS
    return SEVERAL if HEADS[head][0] == 3 else BINARY


def by_hand(head, loss, logits_loss, labels):
    """Loss and accuracy under the attack, by the shortest way."""
    count = HEADS[head][0]
    activation = keras.activations.softmax if count == 3 else keras.activations.sigmoid
    rows = labels if labels.ndim == 2 or (count == 3) else labels[:, None]

    def losses(z):
        # Plain probabilities, without the logits that Keras leaves on them.
        function, outputs = (logits_loss, z) if logits_loss else (loss, tf.identity(activation(z)))
        function = keras.losses.get(function)
        call = getattr(function, "call", function)
        values = call(tf.constant(rows, tf.float32), outputs)
        return tf.reshape(values, [COUNT, -1])[:, 0]

    kernel = tf.constant(KERNEL[count])
    u = tf.constant(UNIT_IMAGES)
    with tf.GradientTape() as tape:
        tape.watch(u)
        total = tf.reduce_sum(losses(tf.reshape(u, [COUNT, 16]) @ kernel))
    moved = tf.clip_by_value(u + EPSILON * tf.sign(tape.gradient(total, u)), 0, 1)
    z = tf.reshape(moved, [COUNT, 16]) @ kernel
    truth = labels.argmax(1) if labels.ndim == 2 else labels
    predicted = (z[:, 0] > 0) if count == 1 else tf.argmax(z, 1)
    return float(tf.reduce_mean(losses(z))), float(np.mean(np.asarray(predicted) == truth))


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return COUNT // 16

    def __getitem__(self, i):
        return self.x[16 * i : 16 * i + 16], self.y[16 * i : 16 * i + 16]


CONTAINERS = {
    "arrays": lambda x, y: {"x": x, "y": y, "batch_size": 16},
    "tensors": lambda x, y: {"x": tf.constant(x), "y": tf.constant(y), "batch_size": 16},
    "tf.data": lambda x, y: {"x": tf.data.Dataset.from_tensor_slices((x, y)).batch(16)},
    "PyDataset": lambda x, y: {"x": Batches(x, y)},
    "generator": lambda x, y: {"x": (Batches(x, y)[i] for i in range(3)), "steps": 3},
}


def evaluated(head, loss, labels, container="arrays", pixel_range=UNIT):
    model = AdversarialModel(
        classifier(head, pixel_range),
        StepAttack(EPSILON, EPSILON),
        validation_attack=StepAttack(EPSILON, EPSILON),
        pixel_range=(pixel_range.low, pixel_range.high),
    )
    model.compile("adam", loss)
    data = CONTAINERS[container](pixel_range.from_unit(UNIT_IMAGES), labels)
    return model.evaluate(**data, verbose=0, return_dict=True)


def check(head, name, container="arrays", pixel_range=UNIT):
    loss, logits_loss, one_hot = losses_of(head)[name]
    labels = labels_of(HEADS[head][0])
    if one_hot:
        labels = keras.utils.to_categorical(labels, 3)
    figures = evaluated(head, loss, labels, container, pixel_range)
    expected_loss, accuracy = by_hand(head, loss, logits_loss, labels)
    # One image may lie on the border.
    assert figures["adversarial_accuracy"] == pytest.approx(accuracy, abs=1.01 / COUNT)
    assert figures["adversarial_loss"] == pytest.approx(expected_loss, rel=2e-3, abs=1e-5)


ONCE = [
    *(("dense", name) for name in SEVERAL if name not in ("categorical by name", "mse by name")),
    *((head, "sparse") for head in SOFTMAXES[1:]),
    ("ops", "squared error"),
    *(("logits", name) for name in OF_LOGITS["logits"]),
    *(("one probability", name) for name in BINARY),
    ("one probability, linear behind", "binary"),
    *(("one logit", name) for name in OF_LOGITS["one logit"]),
    *(("sigmoids", name) for name in SIGMOIDS),
]


@pytest.mark.parametrize(("head", "name"), ONCE)
def test_every_output_with_every_loss(head, name):
    check(head, name)


DIAGONAL = list(zip(CONTAINERS, itertools.cycle([UNIT, BYTES, SIGNED])))


@pytest.mark.parametrize(("container", "pixel_range"), DIAGONAL, ids=str)
def test_every_container_and_every_range(container, pixel_range):
    check("dense", "sparse", container, pixel_range)


ALL = [
    (head, name, container, pixel_range)
    for head in HEADS
    for name, container, pixel_range in itertools.product(
        losses_of(head), CONTAINERS, [UNIT, BYTES, SIGNED]
    )
]


@pytest.mark.slow
@pytest.mark.parametrize(("head", "name", "container", "pixel_range"), ALL)
def test_everything_with_everything(head, name, container, pixel_range):
    check(head, name, container, pixel_range)
