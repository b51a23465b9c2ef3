"""What must hold before a classifier's figures mean anything, each with one sentence if not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.batching import batches_of
from pnil_tf.contract.classifier import Classifier, random_images
from pnil_tf.contract.trace import draws_numbers
from pnil_tf.errors import UserError
from pnil_tf.keras_internals import all_layers
from pnil_tf.logs import errors_only
from pnil_tf.tensors import Images, Logits, Pixels, Tensor

Batch: TypeAlias = np.ndarray | Images
"""Images in [0, 1], float32 `(n, height, width, channels)`."""

# Of a graph that draws random numbers, the answers may be other ones in few of its calls.
_TRIES, _MANY_TRIES = 3, 64
_MANY = 256
_SAME = 1e-5
# Sums in another order, in float16 too; batch statistics differ by far more.
_ALONE = 0.02
# Whatever they are, a batch of one shape is added up in one order.
_BESIDE_OTHERS = 1e-5
# What is no proof may depend on how a device adds up this time.
_BESIDE_IMAGES = 1e-3
OTHERS = 4
"""Images that `check_beside_others` puts beside those that it is asked about."""
# Images of a batch that are asked about alone.
_PLACES = 4
# Of noise that is averaged, and by how many standard errors two means may differ.
_DRAWS, _SIGMAS = 32, 6.0


@errors_only("tensorflow")  # each classifier is a graph of its own, and rightly so
def has_input_gradient(
    classifier: Classifier, unit: Batch, size: int | None = None, training: bool = False
) -> bool:
    """Whether the logits tell which way to move the pixels.

    Args:
        classifier: The classifier.
        unit: Different images in [0, 1], float32 `(n, ...)`, n >= 2.
        size: How many of them to ask about at once; by default all.
        training: Whether the model is called for training.

    Returns:
        False where no path of gradients leads to the images (a cast, a rounding, an integer
        input, an operation that TensorFlow has no gradient of), or where all gradients are zero
        although the images have different logits. A model that says the same of every image (just
        initialised with zeros) is not at fault.
    """

    def summed(images: Images) -> tuple[Logits, Tensor]:
        with _quiet(classifier):
            logits = classifier.logits(classifier.pixel_range.from_unit(images), training)
        # Each image with a weight of its own, which a mean over the batch cannot cancel.
        weights = tf.range(1.0, 1.0 + tf.cast(tf.shape(logits)[0], tf.float32))[:, tf.newaxis]
        return logits, tf.reduce_sum(weights * logits * _signs(logits.shape[1]))

    # By `tf.gradients`: a tape records nothing while another function is being traced.
    @tf.function(autograph=False)
    def in_graph(images: Images) -> tuple[Logits, Tensor]:
        logits, total = summed(images)
        return logits, tf.gradients(total, images)[0]

    def eagerly(images: Images) -> tuple[Logits, Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits, total = summed(images)
        return logits, tape.gradient(total, images)

    differentiate = in_graph if classifier.in_graph else eagerly
    answers = []
    for batch in batches_of(len(unit), size or len(unit)):
        try:
            logits, gradient = differentiate(tf.constant(unit[batch], tf.float32))
        except LookupError:
            return False
        if gradient is None:
            return False
        if tf.reduce_any(gradient != 0):
            return True
        answers.append(logits.numpy())
    every = np.concatenate(answers)
    return not differ(every[:1], every)


def gradients_reach(classifier: Classifier, unit: Batch, training: bool = False) -> bool:
    """As `has_input_gradient`, and if these few images say no, many random ones are asked, too.

    Args:
        classifier: The classifier.
        unit: As many images in [0, 1] as it takes at once, float32 `(n, ...)`.
        training: Whether the model is called for training.
    """
    if has_input_gradient(classifier, unit, training=training):
        return True
    # Of a network that has all but collapsed, a few images may meet no unit that is alive.
    more = random_images(unit.shape[1:], _MANY // len(unit) * len(unit))
    more *= np.linspace(0, 1, len(more), dtype=np.float32).reshape(-1, *[1] * (more.ndim - 1))
    return has_input_gradient(classifier, more, len(unit), training)


def check_input_gradient(classifier: Classifier, unit: Batch, training: bool = False) -> None:
    """Refuses a classifier that gradients do not pass through; see `gradients_reach`.

    Args:
        classifier: The classifier.
        unit: As many images in [0, 1] as it takes at once, float32 `(n, ...)`.
        training: Whether the model is called for training.

    Raises:
        UserError: If so.
    """
    if not gradients_reach(classifier, unit, training):
        raise UserError(
            f"The classifier's answers{' in training' * training} have no gradient with respect to "
            "the pixels, so no gradient attack can change them: clean and adversarial accuracy "
            "would be one number. Look for rounding, a cast to whole numbers, tf.numpy_function, "
            "an Embedding, Resizing with interpolation='area', or an Input of integers in the "
            "model, and put it before the model, into the data."
        )


@errors_only("tensorflow")
def check_each_alone(
    classifier: Classifier, unit: Batch, tolerance: float = _ALONE, *, in_graph: bool = False
) -> bool:
    """Refuses a classifier whose answer to an image depends on the others of its batch.

    Args:
        classifier: The classifier.
        unit: A few different images in [0, 1], float32 `(n, ...)`, n >= 2. Some of them, spread
            over the batch, are asked about alone: the first one would not tell of noise that
            never changes, of which every place in a batch has its own.
        tolerance: By how much an answer may change, as a share of how far the logits differ.
        in_graph: Whether the classifier works as a graph, which holds less of a large batch in
            memory. Noise of Python would be a constant of it.

    Returns:
        Whether it could be told.

    Raises:
        UserError: If so, for example by the statistics of the batch.
    """
    with _quietly(classifier, in_graph) as predict:
        among = predict(unit)
        if any(differ(among, predict(unit)) for _ in range(tries(classifier, 1))):
            return False  # noise that cannot be switched off hides the difference
        try:
            places = np.unique(np.linspace(0, len(unit) - 1, _PLACES).astype(int))
            each = [predict(unit[i : i + 1]) for i in places]
        except (tf.errors.InvalidArgumentError, ValueError):
            return False  # a model of a fixed batch size
    _check_same(among[places], np.concatenate(each), among, tolerance)
    return True


@contextlib.contextmanager
def _quietly(classifier: Classifier, in_graph: bool) -> Iterator[Callable[[Batch], np.ndarray]]:
    """What gives the classifier's logits quietly; in a graph for each size of a batch if asked."""
    if not (in_graph and classifier.in_graph):
        with _quiet(classifier):
            yield lambda unit: np.asarray(classifier.predict(unit))
        return

    @tf.function(autograph=False)
    def graph(unit: Images) -> Logits:
        with _quiet(classifier):
            return classifier.predict(unit)

    yield lambda unit: np.asarray(graph(tf.constant(unit, tf.float32)))


@errors_only("tensorflow")
def check_beside_others(classifier: Classifier, unit: Batch) -> None:
    """Refuses a classifier whose answers change, however little, with the others of a batch.

    The batches have one shape and each image keeps its place, so that rounding is no excuse.

    Args:
        classifier: The classifier, without noise that cannot be switched off.
        unit: Images in [0, 1], float32 `(n, ...)`.

    Raises:
        UserError: If so.
    """
    others, half = random_images(unit.shape[1:], OTHERS), OTHERS // 2
    # A maximum over the batch is the same beside pixels from 0 to 1; noisy ones lie beyond.
    with _quietly(classifier, in_graph=True) as predict:
        first, second = (
            predict(np.concatenate([beside[:half], unit, beside[half:]]))
            for beside in (others, 4.0 * others[::-1] - 1.5)
        )
    kept = slice(half, half + len(unit))
    _check_same(first[kept], second[kept], first, _BESIDE_OTHERS)


@errors_only("tensorflow")
def check_among_draws(classifier: Classifier, unit: np.ndarray, draws: int) -> None:
    """Refuses a classifier that answers draws of one image otherwise beside other images.

    A layer might mix those rows of a batch that are alike, which different images never are.

    Args:
        classifier: The classifier, whose noise is that of one `PNILLayer`, called once.
        unit: Images in [0, 1], float32 `(n, height, width, channels)`; each is tried.
        draws: Of an image in a batch, each with noise of its own.

    Raises:
        UserError: If so.
    """
    shape = (draws, *unit.shape[1:])
    # Any two rows, however far apart, may be those that are mixed.
    others = np.random.default_rng(0).permutation(draws) < draws // 2

    @tf.function(autograph=False)
    def answers(image: Tensor, mixed: Tensor) -> Logits:
        place = tf.reshape(tf.constant(others), (draws, *[1] * (unit.ndim - 1)))
        beside = tf.random.stateless_uniform(shape, seed=(0, 1))
        batch = tf.where(mixed & place, beside, image)
        noise = tf.random.stateless_normal(shape, seed=(0, 2))
        with rng.noise_from(lambda shape, call: noise):
            return classifier.predict(batch)

    for image in tf.constant(unit, tf.float32):
        first, second = (answers(image, tf.constant(mixed)).numpy() for mixed in (False, True))
        _check_same(first[~others], second[~others], first, _BESIDE_OTHERS)


def check_beside_images(predict: Callable[[Any], Any], unit: Batch, noisy: bool) -> None:
    """Refuses a classifier whose answers change with the images of a batch, be it noisy or not.

    Half of the images keep their places; those between them become black, white, and noise.
    Noise is averaged over draws, and a difference that it explains is none.

    Args:
        predict: Images in [0, 1] -> logits, a draw of the noise each time.
        unit: Images in [0, 1], float32 `(n, ...)`.
        noisy: Whether one image has many answers.

    Raises:
        UserError: If so.
    """
    unit = np.asarray(unit)
    draws = _DRAWS if noisy else 1
    black = np.zeros_like(unit[1::2])
    means, errors = [], []
    for beside in (black, black + 1.0, random_images(unit.shape[1:], len(black))):
        batch = unit.copy()
        batch[1::2] = beside
        try:
            each = [np.asarray(predict(tf.constant(batch)))[::2] for _ in range(draws)]
        except (tf.errors.InvalidArgumentError, ValueError):
            return  # a model of a fixed batch size
        answers = np.stack(each)
        answers = np.where(np.isfinite(answers), answers, np.nan)
        means.append(answers.mean(axis=0))
        errors.append(answers.std(axis=0) / np.sqrt(draws))
    for mean, error in zip(means[1:], errors[1:], strict=True):
        explained = _SIGMAS * np.hypot(error, errors[0])
        moved = np.sign(mean - means[0]) * np.minimum(np.abs(mean - means[0]), explained)
        here, there = mean - moved, means[0]
        if noisy:  # by chance an image may have no answer in some of these draws alone
            told = np.isfinite(here) & np.isfinite(there)
            here, there = np.where(told, here, 0.0), np.where(told, there, 0.0)
        _check_same(here, there, there, _ALONE if noisy else _BESIDE_IMAGES)


def _check_same(a: np.ndarray, b: np.ndarray, among: np.ndarray, tolerance: float) -> None:
    """Refuses answers to the same images, but in other company, that differ."""
    appear = (np.isfinite(a) != np.isfinite(b)).any()
    a, b, among = (np.where(np.isfinite(values), values, 0.0) for values in (a, b, among))
    # What all images share (a large bias) says nothing.
    size = max(float(np.ptp(among)), 1e-6 * float(np.abs(among).max()), 1e-30)
    by = np.inf if appear else np.abs(a - b).max()
    if not by <= tolerance * size:
        raise UserError(
            "The classifier's answer to an image depends on the other images of the batch, or on "
            f"its place among them, by {by:.3g} in its logits. At inference "
            "every image must be answered by itself. Look for BatchNormalization called with "
            "training=True, a layer that takes a mean or a maximum over the batch, or noise from "
            "a seed that never changes."
        )


def noise_freezes(classifier: Classifier, unit: Batch, training: bool = False) -> bool:
    """Whether the model is noisy in Python, but a constant once TensorFlow has traced it.

    NumPy's noise in a layer's `call` becomes a constant of the graph: many draws would be one.

    Args:
        classifier: The classifier.
        unit: A few images in [0, 1], float32 `(n, ...)`.
        training: Whether the model is called for training.
    """
    return _noises(classifier, unit, training) == (True, False)


def check_noise(classifier: Classifier, unit: Batch, training: bool = False) -> bool:
    """Refuses a classifier whose noise freezes in a graph; see `noise_freezes`.

    Returns:
        Whether it has noise that no seed of Keras' or of this package's controls.

    Raises:
        UserError: If so.
    """
    noisy, noisy_in_graph = _noises(classifier, unit, training)
    if noisy and not noisy_in_graph:
        raise UserError(
            "The classifier's noise is drawn in Python (by NumPy, for example), so TensorFlow "
            "draws it once and repeats it every time. Draw it with keras.random and a "
            "SeedGenerator, or with tf.random, in the layer's call."
        )
    return noisy


def draws_without_seed(classifier: Classifier, unit: Batch) -> bool:
    """Whether a Keras model, called for training, draws by `keras.random` without a seed."""
    pixels = classifier.pixel_range.from_unit(tf.constant(unit, tf.float32))
    with rng.noise_off():
        return rng.draws_without_seed(
            classifier.model, lambda: classifier.logits(pixels, training=True)
        )


def _noises(classifier: Classifier, unit: Batch, training: bool) -> tuple[bool, bool]:
    """Whether there is noise in Python, and whether a graph has all of it.

    That counts apart which this package and Keras control.
    """
    pixels = tf.constant(classifier.pixel_range.from_unit(np.asarray(unit, np.float32)))

    def call(pixels: Pixels) -> Logits:
        with _quiet(classifier):
            return classifier.logits(pixels, training)

    graph, other = (tf.function(call, autograph=False) for _ in range(2))
    body = graph.get_concrete_function(pixels).graph
    count = _MANY_TRIES if draws_numbers(body) else _TRIES
    if not _vary(call, pixels, count):
        return False, False
    # Other noise, which every run draws afresh, may hide what has become a constant.
    first, second = map(_constants, (body, other.get_concrete_function(pixels).graph))
    same = len(first) == len(second) and all(map(np.array_equal, first, second))
    return True, same and _vary(graph, pixels, count)


def _constants(graph: tf.Graph) -> list[np.ndarray]:
    """The constants of a function's graph, and the tensors that it has captured."""
    found = [op.outputs[0] for op in graph.get_operations() if op.type == "Const"]
    captured = [outer for outer, _ in graph.captures if hasattr(outer, "numpy")]
    values = [tf.get_static_value(tensor) for tensor in found] + [
        tensor.numpy() for tensor in captured if tensor.dtype not in (tf.resource, tf.variant)
    ]
    return [np.asarray(value) for value in values]


def only_stock_layers(model: keras.Model) -> bool:
    """Whether a model consists of Keras' and this package's own layers, of no other code.

    A function that such a layer was given (an activation) is other code.
    """
    for layer in all_layers(model):
        if is_foreign(layer) or isinstance(layer, keras.layers.TFSMLayer):
            return False
        if any(callable(value) and is_foreign(value) for value in vars(layer).values()):
            return False
        operations = getattr(layer, "operations", ())
        if not all(isinstance(operation, keras.Layer) for operation in operations):
            return False
    return True


def is_foreign(thing: Any) -> bool:
    """Whether the code of a thing is neither Keras', TensorFlow's nor this package's."""
    # Of an object, the module of its class.
    package = (getattr(thing, "__module__", None) or "").partition(".")[0]
    return package not in ("keras", "pnil_tf", "tensorflow")


def _vary(call: Callable[[Pixels], Logits], pixels: Pixels, count: int) -> bool:
    first = np.asarray(call(pixels))
    return any(differ(first, np.asarray(call(pixels))) for _ in range(count))


def tries(classifier: Classifier, usual: int) -> int:
    """How many answers to compare with a first one, to see whether they are always the same.

    Many, where the classifier draws random numbers: they may change an answer seldom, and those
    to a whole batch at once. Keras' own layers draw some while they rest.

    Args:
        classifier: The classifier.
        usual: How many of a classifier that draws none.
    """
    model = classifier.model
    rests = isinstance(model, keras.Layer) and only_stock_layers(model)
    return _MANY_TRIES if classifier.draws and not rests else usual


@contextlib.contextmanager
def _quiet(classifier: Classifier) -> Iterator[None]:
    """Within it, the noise that this package and Keras control does not change."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(rng.noise_off())
        if isinstance(classifier.model, keras.Layer):
            stack.enter_context(rng.stateless_layers(classifier.model, rng.make_seed(0)))
        yield


def _signs(count: int) -> Tensor:
    """Factors that make no sum of logits constant: the sum of probabilities would be."""
    return tf.constant([[1.0 + 0.5 * i if i % 2 else -1.0 - 0.5 * i for i in range(count)]])


def differ(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two outputs differ by more than the order of additions can explain.

    Numbers that are not finite are alike, and differ from all that are.
    """
    a, b = np.broadcast_arrays(a, b)
    finite = np.isfinite(a)
    if (finite != np.isfinite(b)).any():
        return True
    a, b = a[finite], b[finite]
    return bool(
        np.abs(a - b).max(initial=0.0) > _SAME * max(float(np.abs(a).max(initial=0.0)), 1e-30)
    )
