"""One step of training on every output x every loss of Keras: the weights of a computation by hand.

By hand is: the same weights as logits of images in [0, 1], the loss in the form that takes logits
where there is one, one step of the gradient's sign, one step of gradient descent. It is done in
float64; in float32 where the weights are large, as a probability that rounds to 1 has another
slope there.
"""

import dataclasses
import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.attacks.one_step import StepAttack
from pnil_tf.errors import UserError
from pnil_tf.training.model import AdversarialModel

D, L = keras.layers, keras.losses
EPSILON, RATE, COUNT, CLASSES = 0.05, 0.5, 48, 3
GENERATOR = np.random.default_rng(5)
UNIT_IMAGES = GENERATOR.random((COUNT, 4, 4, 1)).astype(np.float32)
# So small that no hinge is satisfied: where a loss is flat there is nothing to compare.
KERNELS = {
    count: GENERATOR.normal(scale=0.12, size=(16, count)).astype(np.float32)
    for count in (1, CLASSES)
}

# What Keras' losses are to a classifier, by the name of the function. A loss that Keras adds must
# be written here; the letters are those of HEADS, "-" where a sentence refuses it, and a blank
# where nothing is compared (the cosine of a single number is its sign, and has no slope).
#
#                          softmax, sigmoids, one probability, logits, one logit
DECIDED = {
    "binary_crossentropy": "-sp--",
    "binary_crossentropy of logits": "---lo",
    "binary_focal_crossentropy": "-sp--",
    "binary_focal_crossentropy of logits": "---lo",
    "categorical_crossentropy": "ms---",
    "categorical_crossentropy of logits": "---l-",
    "categorical_focal_crossentropy": "ms---",
    "categorical_focal_crossentropy of logits": "---l-",
    "categorical_generalized_cross_entropy": "ms---",
    "categorical_hinge": "ms-l-",
    "circle": "-----",
    "cosine_similarity": "ms l-",
    "ctc": "-----",
    "dice": "-----",
    "hinge": "msplo",
    "huber": "mspl-",
    "kl_divergence": "msp--",
    "log_cosh": "mspl-",
    "mean_absolute_error": "mspl-",
    "mean_absolute_percentage_error": "mspl-",
    "mean_squared_error": "mspl-",
    "mean_squared_logarithmic_error": "mspl-",
    "poisson": "msp--",
    "sparse_categorical_crossentropy": "ms---",
    "sparse_categorical_crossentropy of logits": "---l-",
    "squared_hinge": "msplo",
    "tversky": "-----",
}
HEADS = {
    "softmax": (CLASSES, "softmax"),
    "sigmoids": (CLASSES, "sigmoid"),
    "one probability": (1, "sigmoid"),
    "logits": (CLASSES, None),
    "one logit": (1, None),
}
NUMBERED = ("categorical_generalized_cross_entropy", "sparse_categorical_crossentropy")
NEED_A_SETTING = ("categorical_generalized_cross_entropy",)  # as a function it is no loss of Keras
HELPERS = ("deserialize", "get", "serialize", "Loss")


def losses_of_keras():
    """Every loss of Keras in every form: what to call it, its row of the table, and itself."""
    found = []
    for name, member in inspect.getmembers(L):
        if name.startswith("_") or name in HELPERS:
            continue
        if not inspect.isclass(member):
            if name in NEED_A_SETTING:
                continue
            found += [(f"{name}()", name, member), (f"'{name}'", name, name)]
            continue
        row = member().fn.__name__ if hasattr(member(), "fn") else name.lower()
        found.append((name, row, member()))
        if "from_logits" in inspect.signature(member).parameters:
            found.append((f"{name} of logits", f"{row} of logits", member(from_logits=True)))
    return found


KERAS_LOSSES = losses_of_keras()


def test_every_loss_of_keras_is_decided():
    assert {row for _, row, _ in KERAS_LOSSES} == set(DECIDED)


@dataclasses.dataclass(frozen=True)
class Front:
    """What stands in front of the weights, and the pixels that it takes."""

    low: float = 0.0
    high: float = 1.0
    given: bool = False
    scale: float | None = None
    offset: float = 0.0

    def pixels(self, unit):
        return self.low + unit * (self.high - self.low)

    def inside(self, unit):
        pixels = self.pixels(unit)
        return pixels if self.scale is None else pixels * self.scale + self.offset


FRONTS = {
    "nothing": Front(),
    "bytes found": Front(0, 255, scale=1 / 255),
    "bytes found, signed inside": Front(0, 255, scale=1 / 127.5, offset=-1),
    "signed found": Front(-1, 1, scale=0.5, offset=0.5),
    "bytes given": Front(0, 255, given=True, scale=1 / 255),
    "signed given": Front(-1, 1, given=True),
}


def labels_of(count, row=""):
    values = UNIT_IMAGES.reshape(COUNT, 16) @ KERNELS[count]
    if count == 1:
        return (values[:, 0] > np.median(values)).astype(np.int32)
    numbers = (values - values.mean(0)).argmax(1).astype(np.int32)  # some of each class
    return numbers if row.removesuffix(" of logits") in NUMBERED else np.eye(count)[numbers]


def build(head, front=Front(), size=1.0, activation=None):
    """The weights, with an activation inside the layer or (given as layers) behind it."""
    count, inside = HEADS[head]
    images = keras.Input((4, 4, 1))
    x = images if front.scale is None else D.Rescaling(front.scale, front.offset)(images)
    dense = D.Dense(count, use_bias=False, activation=None if activation else inside)
    x = dense(D.Flatten()(x))
    for step in activation or ():
        x = step(x)
    dense.set_weights([size * KERNELS[count]])
    return keras.Model(images, x), dense


def by_hand(head, loss, labels, front=Front(), size=1.0):
    """Weights after the step, then the accuracy and the loss under attack."""
    count, activation = HEADS[head]
    dtype = tf.float64 if size == 1.0 else tf.float32
    rows = tf.constant(labels if count > 1 else labels.reshape(COUNT, 1), dtype)
    function = L.get(loss)
    config = function.get_config() if isinstance(function, L.Loss) else {}
    function = getattr(function, "fn", function)
    settings = {
        name: config[name]
        for name in ("from_logits", "label_smoothing", "q")
        if name in config and name in inspect.signature(function).parameters
    }
    takes_logits = "from_logits" in inspect.signature(function).parameters
    own = "sigmoid" if "binary" in function.__name__ else "softmax"
    takes_logits &= activation in (None, own)
    if takes_logits:
        settings["from_logits"] = True

    def losses(z):
        # With another activation than its own a loss is what Keras makes of the pair.
        if not takes_logits and activation:
            z = getattr(keras.activations, activation)(z)
        return tf.reshape(function(rows, z, **settings), [COUNT, -1])[:, 0]

    def logits(unit, kernel):
        return tf.reshape(front.inside(unit), [COUNT, 16]) @ kernel

    def attacked(kernel):
        unit = tf.constant(UNIT_IMAGES, dtype)
        with tf.GradientTape() as tape:
            tape.watch(unit)
            values = losses(logits(unit, kernel))
        slope = tape.gradient(values, unit)
        return tf.clip_by_value(unit + EPSILON * tf.sign(slope), 0, 1)

    kernel = tf.constant(size * KERNELS[count], dtype)
    moved = attacked(kernel)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        mean = tf.reduce_mean(losses(logits(moved, kernel)))
    kernel -= RATE * tape.gradient(mean, kernel)

    z = logits(attacked(kernel), kernel).numpy()
    truth = labels.argmax(1) if labels.ndim == 2 and labels.shape[1] > 1 else labels.reshape(-1) > 0
    if labels.ndim == 1 and count > 1:
        truth = labels
    predicted = z[:, 0] > 0 if count == 1 else z.argmax(1)
    return kernel.numpy(), float((predicted == truth).mean()), float(tf.reduce_mean(losses(z)))


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 1

    def __getitem__(self, i):
        return self.x, self.y


def whole(x, y):
    yield x, y


CONTAINERS = {
    "arrays": lambda x, y: {"x": x, "y": y, "batch_size": COUNT},
    "tensors": lambda x, y: {"x": tf.constant(x), "y": tf.constant(y), "batch_size": COUNT},
    "tf.data": lambda x, y: {"x": tf.data.Dataset.from_tensor_slices((x, y)).batch(COUNT)},
    "PyDataset": lambda x, y: {"x": Batches(x, y)},
    "generator": lambda x, y: {"x": whole(x, y)},
}


def compiled(classifier, loss, front=Front(), **settings):
    attack = StepAttack(EPSILON, EPSILON)
    model = AdversarialModel(
        classifier,
        attack,
        validation_attack=attack,
        pixel_range=(front.low, front.high) if front.given else None,
    )
    # Scaled losses would overflow in the first step, which is then left out.
    optimizer = keras.optimizers.SGD(RATE)
    if keras.mixed_precision.global_policy().name == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=1.0)
    model.compile(optimizer, loss, **settings)
    return model


def check(
    head,
    loss,
    labels,
    container="arrays",
    front=Front(),
    size=1.0,
    activation=None,
    strategy=None,
    tolerance=1e-3,
    **settings,
):
    with (strategy or tf.distribute.get_strategy()).scope():
        classifier, dense = build(head, front, size, activation)
        model = compiled(classifier, loss, front, **settings)
    pixels = front.pixels(UNIT_IMAGES)
    model.fit(**CONTAINERS[container](pixels, labels), shuffle=False, verbose=0)
    kernel, accuracy, value = by_hand(head, loss, labels, front, size)

    start = size * KERNELS[HEADS[head][0]]
    step, expected = dense.get_weights()[0] - start, kernel - start
    assert np.abs(expected).max() > 1e-4
    np.testing.assert_allclose(step, expected, atol=tolerance * np.abs(expected).max())
    figures = model.evaluate(**CONTAINERS[container](pixels, labels), verbose=0, return_dict=True)
    # One image may lie on the border.
    assert figures["adversarial_accuracy"] == pytest.approx(accuracy, abs=1.01 / COUNT)
    assert figures["adversarial_loss"] == pytest.approx(value, rel=5 * tolerance, abs=1e-5)


def decided(refused):
    """Each loss, with every output that it suits (or that is refused)."""
    return [
        pytest.param(head, row, loss, id=f"{name}-{head}")
        for name, row, loss in KERAS_LOSSES
        for head, letter in zip(HEADS, DECIDED[row], strict=True)
        if letter != " " and (letter == "-") == refused
    ]


def some(cases, every):
    return cases[::every]


# The choice meets every output.
@pytest.mark.parametrize(("head", "row", "loss"), some(decided(False), 16))
def test_a_step_with_some_losses_of_keras(head, row, loss):
    check(head, loss, labels_of(HEADS[head][0], row))


@pytest.mark.slow
@pytest.mark.parametrize(("head", "row", "loss"), decided(False))
def test_a_step_with_every_loss_of_keras(head, row, loss):
    check(head, loss, labels_of(HEADS[head][0], row))


def check_refused(head, row, loss):
    classifier, _ = build(head)
    with pytest.raises(UserError, match="Received: ") as refused:
        compiled(classifier, loss)
    assert "loss" in str(refused.value)


@pytest.mark.parametrize(("head", "row", "loss"), some(decided(True), 8))
def test_a_sentence_refuses_some_losses(head, row, loss):
    check_refused(head, row, loss)


@pytest.mark.slow
@pytest.mark.parametrize(("head", "row", "loss"), decided(True))
def test_a_sentence_refuses_every_other_loss(head, row, loss):
    check_refused(head, row, loss)


LOSSES = {
    "softmax": "sparse_categorical_crossentropy",
    "sigmoids": "binary_crossentropy",
    "one probability": "binary_crossentropy",
    "logits": L.SparseCategoricalCrossentropy(from_logits=True),
    "one logit": L.BinaryCrossentropy(from_logits=True),
}


def check_usual(head, **settings):
    labels = labels_of(HEADS[head][0], LOSSES[head] if head == "softmax" else "")
    if head == "logits":
        labels = labels.argmax(1)
    check(head, LOSSES[head], labels, **settings)


DIAGONAL = list(zip([*FRONTS], [*CONTAINERS, "tf.data"], ["softmax", *HEADS], strict=True))


@pytest.mark.parametrize(("front", "container", "head"), DIAGONAL)
def test_a_step_in_some_ranges_and_containers(front, container, head):
    check_usual(head, front=FRONTS[front], container=container)


@pytest.mark.slow
@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("head", HEADS)
def test_a_step_in_every_range_and_container(front, container, head):
    check_usual(head, front=FRONTS[front], container=container)


@pytest.mark.parametrize(
    ("loss", "form"),
    [
        ("binary_crossentropy", lambda y: y[:, None]),
        ("binary_crossentropy", lambda y: y.astype(bool)),
        ("hinge", lambda y: 2 * y - 1),
        ("squared_hinge", lambda y: (2.0 * y - 1)[:, None]),
    ],
)
def test_a_step_with_every_form_of_binary_labels(loss, form):
    check("one probability", loss, form(labels_of(1)))


ACTIVATIONS = {
    "a layer": ("softmax", lambda: [D.Softmax()]),
    "an operation": ("softmax", lambda: [keras.ops.softmax]),
    "linear behind": ("softmax", lambda: [D.Softmax(), D.Activation("linear", dtype="float32")]),
    "a model": ("softmax", lambda: [keras.Sequential([keras.Input((CLASSES,)), D.Softmax()])]),
    "sigmoid layer": ("one probability", lambda: [D.Activation("sigmoid")]),
    "sigmoid operation": ("one probability", lambda: [keras.ops.sigmoid]),
    "identity behind": ("one probability", lambda: [D.Activation("sigmoid"), D.Identity()]),
}


@pytest.mark.parametrize("name", ["an operation", "linear behind", "identity behind"])
def test_a_step_with_the_activation_in_some_places(name):
    head, steps = ACTIVATIONS[name]
    check_usual(head, activation=steps())


@pytest.mark.slow
@pytest.mark.parametrize("run_eagerly", [False, True])
@pytest.mark.parametrize("size", [1.0, 200.0])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_step_with_the_activation_in_every_place(name, size, run_eagerly):
    head, steps = ACTIVATIONS[name]
    check_usual(head, activation=steps(), size=size, run_eagerly=run_eagerly)


WAYS = {
    "eager": {"run_eagerly": True},
    "eager, large weights": {"run_eagerly": True, "size": 200.0},
    "large weights": {"size": 200.0},
    "compiled by XLA": {"jit_compile": True},
    "compiled by XLA, large weights": {"jit_compile": True, "size": 200.0},
}
# What fits each, and all outputs among them.
SOME_WAYS = [
    ("softmax", "large weights"),
    ("one probability", "eager, large weights"),
    ("sigmoids", "compiled by XLA"),
]


@pytest.mark.parametrize(("head", "way"), SOME_WAYS)
def test_a_step_run_in_some_ways(head, way):
    check_usual(head, **WAYS[way])


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("head", HEADS)
def test_a_step_run_in_every_way(head, way):
    check_usual(head, **WAYS[way])


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_a_step_in_half_precision_with_large_weights(run_eagerly):
    keras.mixed_precision.set_global_policy("mixed_float16")
    behind = [D.Activation("softmax", dtype="float32")]
    check_usual("softmax", activation=behind, size=60.0, tolerance=0.05, run_eagerly=run_eagerly)


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("run_eagerly", [False, True])
def test_a_step_in_half_precision_of_every_output(head, run_eagerly):
    keras.mixed_precision.set_global_policy("mixed_float16")
    name = HEADS[head][1]
    behind = [D.Activation(name, dtype="float32")] if name else None
    check_usual(head, activation=behind, size=60.0, tolerance=0.05, run_eagerly=run_eagerly)


@pytest.mark.parametrize(
    "head",
    [
        "one probability",
        *(pytest.param(head, marks=pytest.mark.slow) for head in ("softmax", "sigmoids")),
    ],
)
def test_an_activation_in_half_precision_is_attacked_as_in_single(head):
    # Where it has saturated, Keras' own gradient of the weights is lost; the attack's is not.
    labels = labels_of(HEADS[head][0], LOSSES[head] if head == "softmax" else "")
    crafted = []
    for policy in ("mixed_float16", "float32"):
        keras.mixed_precision.set_global_policy(policy)
        model = compiled(build(head, Front(), 60.0)[0], LOSSES[head], Front())
        images, _ = model._craft_for_training(
            tf.constant(UNIT_IMAGES),
            tf.constant(labels),
            rng.make_seed(1),
            model.attack,
            rng.make_seed(2),
        )
        crafted.append(images)
    np.testing.assert_allclose(crafted[0], crafted[1], atol=1e-6)
    assert np.abs(crafted[0] - UNIT_IMAGES).max() > 0.01


@pytest.mark.parametrize(("head", "front"), [("softmax", "bytes found"), ("one logit", "nothing")])
def test_a_step_on_two_replicas(two_replicas, head, front):
    check_usual(head, front=FRONTS[front], container="tf.data", strategy=two_replicas)


@pytest.mark.slow
@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("head", HEADS)
def test_a_step_of_every_output_on_two_replicas(two_replicas, head, front):
    check_usual(head, front=FRONTS[front], container="tf.data", strategy=two_replicas)


SPOILT = {
    "shares for bytes": ("bytes found", lambda x, y: (x / 255, y), "must lie in"),
    "bytes for shares": ("nothing", lambda x, y: (x * 255, y), "must lie in"),
    "signed for shares": ("nothing", lambda x, y: (2 * x - 1, y), "must lie in"),
    "label too large": ("nothing", lambda x, y: (x, y * 0 + CLASSES), "Labels of 3 classes"),
    "label below 0": ("nothing", lambda x, y: (x, y * 0 - 1), "Labels of 3 classes"),
}


def check_replicas_refuse(strategy, name, call):
    front, spoil, says = SPOILT[name]
    with strategy.scope():
        classifier, _ = build("softmax", FRONTS[front])
        model = compiled(classifier, LOSSES["softmax"], FRONTS[front])
    right = FRONTS[front].pixels(UNIT_IMAGES), labels_of(CLASSES, LOSSES["softmax"])
    wrong = spoil(*right)
    if name != "shares for bytes":  # then one replica alone sees what is wrong
        half = COUNT // 2
        wrong = [np.concatenate([a[:half], b[half:]]) for a, b in zip(right, wrong, strict=True)]
    with pytest.raises(UserError, match=says):
        getattr(model, call)(**CONTAINERS["tf.data"](*wrong), verbose=0)


def test_replicas_refuse_pixels_of_another_range(two_replicas):
    check_replicas_refuse(two_replicas, "bytes for shares", "fit")


@pytest.mark.slow
@pytest.mark.parametrize("call", ["fit", "evaluate"])
@pytest.mark.parametrize("name", SPOILT)
def test_replicas_refuse_wrong_pixels_and_labels(two_replicas, name, call):
    check_replicas_refuse(two_replicas, name, call)
