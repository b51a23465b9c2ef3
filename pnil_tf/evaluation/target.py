"""The model under test, in the one form in which the rest of the evaluation sees it."""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.contract.checks import (
    check_beside_images,
    check_each_alone,
    differ,
    noise_freezes,
    tries,
)
from pnil_tf.contract.classifier import (
    Classifier,
    check_nothing_masked,
    checked_outputs,
    classifier_of,
    has_answer,
    image_shape_of,
)
from pnil_tf.contract.held_noise import drawing_still, one_draw, silent_layers
from pnil_tf.contract.memory import check_remembers_nothing
from pnil_tf.contract.pixel_range import PixelRange, PixelRangeLike
from pnil_tf.contract.trace import EXAMPLES, draws_numbers, examples_within, traced_or_none
from pnil_tf.errors import UserError
from pnil_tf.evaluation.features import penultimate
from pnil_tf.evaluation.room import UNBOUNDED, Room, room_for
from pnil_tf.keras_internals import all_layers
from pnil_tf.layers import PNILLayer
from pnil_tf.training.losses import check_border
from pnil_tf.training.model import AdversarialModel

Predict = Callable[[Any], Any]
"""Images in [0, 1] `(batch, height, width, channels)` -> logits `(batch, classes)`, float32."""

_TRIES = 8
# Images by which noisy answers are held against those in other company.
_NOISY = 8


@dataclasses.dataclass(frozen=True)
class Target:
    """A classifier to evaluate.

    Args:
        classifier: What was found out about the model.
        predict: The classifier, one draw of its noise per call, of images in [0, 1]. It works
            within a `tf.function`; gradients pass through it as far as the model lets them.
        input_shape: `(height, width, channels)`.
        stochastic: Whether two predictions of one input differ.
        repeatable: Whether the noise follows the surrounding noise scope. A model that draws
            by itself gives other numbers in every evaluation.
        pnil_layers: The noise layers found in the model.
        noise_is_ours: Whether all of the noise comes from them, so that it can be mirrored, too.
        held: Whether all of the noise can be held at one draw: `frozen` then is without randomness.
        silent: Whether all of it can be switched off: `noise_free` then is without randomness.
        loud: The layers, as far as they are Keras', because of which it is not.
        kind: What the user handed in, one phrase.
        features: Images -> what the last layer of a Keras model is given, float32
            `(batch, number)`, one draw of the noise per call; None where it cannot be told.
        room: What of its work fits into memory; all, where the model cannot be looked into.
    """

    classifier: Classifier
    predict: Predict
    input_shape: tuple[int, int, int]
    stochastic: bool
    repeatable: bool
    pnil_layers: tuple[PNILLayer, ...] = ()
    noise_is_ours: bool = False
    held: bool = False
    silent: bool = False
    loud: tuple[str, ...] = ()
    kind: str = "callable"
    features: Predict | None = None
    room: Room = UNBOUNDED

    @property
    def num_classes(self) -> int:
        """Number of classes, at least 2."""
        return self.classifier.classes

    @property
    def outputs(self) -> str:
        """What the model answers, one of `pnil_tf.contract.outputs.KINDS`."""
        return self.classifier.outputs.kind

    @property
    def pixel_range(self) -> PixelRange:
        """The pixels that the model takes."""
        return self.classifier.pixel_range

    def noise_free(self) -> Predict:
        """The same model with the noise of its PNIL layers and of Keras' own switched off."""
        return _noise_free(self.classifier, self.predict)

    def frozen(self, seed: int = 1) -> Predict:
        """The same model with its noise frozen to one draw, which all images share."""
        if not self.noise_is_ours:
            return one_draw(self.predict, seed, self.num_classes)

        def predict(x: Any) -> Any:
            with rng.noise_scope(seed, frozen=True):
                return self.predict(x)

        return predict

    def describe(self) -> dict[str, Any]:
        """What a result must say about its model, ready for JSON."""
        return {
            "kind": self.kind,
            **self.classifier.describe(),
            "input_shape": list(self.input_shape),
            "stochastic": self.stochastic,
            "repeatable": self.repeatable,
            "pnil_layers": [
                {"name": layer.name, "noise_at_inference": layer.noise_at_inference}
                for layer in self.pnil_layers
            ],
        }


def as_target(
    model: Any,
    images: np.ndarray,
    kind: str | None = None,
    *,
    pixel_range: PixelRangeLike | None = None,
    outputs: str | None = None,
) -> Target:
    """Makes a `Target` of anything that classifies.

    Args:
        model: A Keras model or layer, an `AdversarialModel`, or any callable from its own pixels
            to logits or probabilities. One that TensorFlow cannot trace, or that would lose its
            randomness in a graph, is called eagerly within the graph.
        images: float32 `(n, height, width, channels)` in [0, 1], n >= 1: real images to try it on.
        kind: What to call the model in results.
        pixel_range: `(low, high)` of the pixels that the model takes; by default an
            `AdversarialModel`'s own, what the model's preprocessing suits, or (0, 1).
        outputs: What the model answers, one of `pnil_tf.contract.outputs.KINDS`, where nothing
            else tells.

    Raises:
        UserError: If it cannot be called on such images, answers with something else than one
            row of numbers for each, has a finite answer to none, or answers an image by looking at
            others.
    """
    classifier = looked_at(model, images.shape[1:], pixel_range, outputs)
    return target_of(classifier, images, kind)


def looked_at(
    model: Any,
    image_shape: Any,
    pixel_range: PixelRangeLike | None = None,
    outputs: str | None = None,
) -> Classifier:
    """As `classifier_of`, for an `AdversarialModel`, too, and for images of the shape given.

    Raises:
        UserError: If the model takes images of another shape, or is no classifier.
    """
    model, pixel_range, outputs = with_terms(model, pixel_range, outputs)
    if isinstance(model, keras.Layer):
        _check_image_shape(model, tuple(image_shape))
    found = classifier_of(model, image_shape=image_shape, pixel_range=pixel_range, outputs=outputs)
    if outputs is None:
        check_border(found.outputs, getattr(model, "loss", None))
    return found


def target_of(classifier: Classifier, images: np.ndarray, kind: str | None = None) -> Target:
    """Tries a classifier on images, and makes a `Target` of it; see `as_target`."""
    trace = traced_or_none(classifier.predict, images.shape[1:]) if classifier.in_graph else None
    values = 0 if trace is None else trace.values
    count = examples_within(values)
    model, examples = classifier.model, tf.constant(images[:count], tf.float32)
    layers: tuple[PNILLayer, ...] = ()
    if isinstance(model, keras.Layer):
        layers = tuple(layer for layer in all_layers(model) if isinstance(layer, PNILLayer))
        kind = kind or "Keras model"
    first = checked_outputs(classifier.predict, examples)
    if not has_answer(first).any():
        check_nothing_masked(first)
        raise UserError(
            "The model's answers to your images are not finite: NaN or infinity for all of the "
            f"first {len(first)}. Retrain it, or find what makes them so."
        )
    # Several tries: noise that is one coin flip for a whole batch shows in half of them.
    count_of_tries = tries(classifier, _TRIES)
    stochastic = any(
        differ(first, checked_outputs(classifier.predict, examples)) for _ in range(count_of_tries)
    )
    if trace is None or not draws_numbers(trace.graph, seeded=False):
        count_of_tries = _TRIES  # whatever else there is follows seeds, seldom or not
    predict: Predict = classifier.predict
    if _changes_in_graph(classifier, examples, first, stochastic):
        predict = _eagerly(classifier, examples)
    elif not _has_gradients(predict, examples):
        predict = _without_gradient(predict)
    repeatable = not stochastic or _repeats(predict, examples, count_of_tries)
    noise_is_ours = (
        bool(layers) and stochastic and repeatable and _all_off(predict, examples, count_of_tries)
    )
    if noise_is_ours or not stochastic:
        check_each_alone(classifier, images[:count])
    # Two of them may be all that memory allows; of many draws each costs a pass.
    _check_beside(predict, images[: min(count, _NOISY) if stochastic else count], stochastic)
    check_remembers_nothing(classifier, trace, examples)
    held = silent = noise_is_ours
    loud: list[str] = []
    if stochastic and repeatable and not noise_is_ours:
        held = _same_in_any_order(one_draw(predict, 0, classifier.classes), examples)
        silent = _same_in_any_order(_noise_free(classifier, predict), examples)
        loud = [] if silent else drawing_still(model, lambda: predict(examples))
    features: Predict | None = None
    if isinstance(model, keras.Layer) and predict == classifier.predict:
        features = penultimate(model, predict, examples)
    return Target(
        classifier=classifier,
        features=features,
        predict=predict,
        input_shape=tuple(examples.shape[1:]),
        stochastic=stochastic,
        repeatable=repeatable,
        pnil_layers=layers,
        noise_is_ours=noise_is_ours,
        held=held,
        silent=silent,
        loud=tuple(loud),
        kind=kind or "callable",
        room=room_for(values, images.shape[1:], stochastic and not noise_is_ours),
    )


def check_batch(target: Target, images: np.ndarray) -> None:
    """Tries a target on as many images as share a batch, since it might mix large batches alone.

    Args:
        target: The classifier. Noise that cannot be switched off would hide the difference.
        images: Images in [0, 1] `(batch, height, width, channels)`.

    Raises:
        UserError: If the answer to an image depends on the others of the batch.
    """
    if len(images) > EXAMPLES and (target.noise_is_ours or not target.stochastic):
        # As it is evaluated: what a graph would change works eagerly.
        graph = target.predict == target.classifier.predict
        check_each_alone(target.classifier, images, in_graph=graph)


def range_is_known(model: Any, pixel_range: PixelRangeLike | None) -> bool:
    """Whether the range of the pixels was said, or held in a training, which checks every batch."""
    if pixel_range is not None or not isinstance(model, AdversarialModel):
        return pixel_range is not None
    return model.given_range is not None or was_trained(model)


def was_trained(model: Any) -> bool:
    """Whether a model is an `AdversarialModel` that has taken steps."""
    return isinstance(model, AdversarialModel) and int(model.steps_taken.numpy()) > 0


def with_terms(
    model: Any, pixel_range: PixelRangeLike | None, outputs: str | None
) -> tuple[Any, PixelRange | None, str | None]:
    """The model `unwrapped`, and what is known of it: what its training rests on, by default."""
    if isinstance(model, AdversarialModel):
        outputs = outputs or model.settled_outputs
        if pixel_range is None and range_is_known(model, None):
            pixel_range = model.pixel_range
    known = None if pixel_range is None else PixelRange.of(pixel_range)
    return unwrapped(model), known, outputs


def unwrapped(model: Any) -> Any:
    """The classifier of an `AdversarialModel`, averaged if it is so; any other model as it is."""
    return model.averaged_classifier() if isinstance(model, AdversarialModel) else model


def _check_image_shape(model: keras.Layer, found: tuple[int, ...]) -> None:
    try:
        expected = image_shape_of(model, declared=True)
    except UserError:
        return
    fits = len(expected) == len(found) and all(
        e in (None, f) for e, f in zip(expected, found, strict=True)
    )
    if not fits:
        raise UserError(
            f"The model takes images of shape {expected}. Received: images of shape {found}. "
            "Evaluate it on images like those it was trained on."
        )


def _changes_in_graph(
    classifier: Classifier, examples: Any, eager: np.ndarray, stochastic: bool
) -> bool:
    """Whether a graph would give other answers, have frozen noise, or cannot be made."""
    if stochastic and classifier.in_graph:
        return noise_freezes(classifier, examples)
    graph = tf.function(classifier.predict, autograph=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            first, second = (np.asarray(graph(examples), np.float32) for _ in range(2))
    except Exception:
        return True  # NumPy code, for example, cannot be traced: not a fault of the model
    return not differ(first, second) if stochastic else differ(eager, first)


def _eagerly(classifier: Classifier, examples: Any) -> Predict:
    predict = classifier.predict
    call = tf.py_function if _has_gradients(predict, examples) else tf.numpy_function

    def called(x: Any) -> Any:
        logits = call(lambda values: tf.cast(predict(values), tf.float32), [x], tf.float32)
        return tf.ensure_shape(logits, [None, classifier.classes])

    return called


def _has_gradients(predict: Predict, examples: Any) -> bool:
    """Whether gradients lead from the logits to the images, at least by TensorFlow's rules."""
    x = tf.identity(examples)
    try:
        with tf.GradientTape() as tape:
            tape.watch(x)
            logits = tf.convert_to_tensor(predict(x))
        return tape.gradient(logits, x) is not None
    except LookupError:  # there is no rule for an operation, such as the resizing by area
        return False


def _without_gradient(predict: Predict) -> Predict:
    """The same model, of which attacks take the gradient for zero, as of one in NumPy."""
    return lambda x: tf.stop_gradient(predict(x))


def _repeats(predict: Predict, examples: Any, count: int) -> bool:
    """Whether one seed gives one prediction."""

    @tf.function(autograph=False)
    def seeded() -> Any:
        with rng.noise_scope(0):
            return predict(examples)

    first = seeded().numpy()
    return not any(differ(first, seeded().numpy()) for _ in range(count))


def _noise_free(classifier: Classifier, predict: Predict) -> Predict:
    def quiet(x: Any) -> Any:
        with rng.noise_off(), silent_layers(classifier.model):
            return predict(x)

    return quiet


def _same_in_any_order(predict: Predict, examples: Any) -> bool:
    """Whether the answer to an image is always one, wherever it stands in a batch."""
    graph = tf.function(predict, autograph=False)
    try:
        first = graph(examples).numpy()
        return not any(
            differ(first, graph(examples[::step]).numpy()[::step])
            for step in (1, -1) * (_TRIES // 2)
        )
    except (tf.errors.InvalidArgumentError, ValueError):
        return False  # a model of a fixed batch size takes no image by itself


def _check_beside(predict: Predict, images: np.ndarray, stochastic: bool) -> None:
    """Refuses a model whose answers depend on the other images of a batch."""

    @tf.function(autograph=False)
    def drawn(x: Any, seed: Any) -> Any:
        with rng.noise_scope(seed):
            return predict(x)

    seeds = itertools.count()
    check_beside_images(lambda x: drawn(x, rng.make_seed(next(seeds))), images, stochastic)


def _all_off(predict: Predict, examples: Any, count: int) -> bool:
    """Whether no randomness is left without the noise of the PNIL layers."""
    with rng.noise_off():
        first = predict(examples).numpy()
        return not any(differ(first, predict(examples).numpy()) for _ in range(count))
