"""`Classifier`: a stranger's model in the one form in which the rest of the package sees it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.batch_norm import fused_batch_norm
from pnil_tf.contract.noise_in_front import warn_of_other_ranges
from pnil_tf.contract.outputs import (
    KINDS,
    Outputs,
    found_activation,
    outputs_by_value,
    outputs_of,
)
from pnil_tf.contract.pixel_range import UNIT, PixelRange, PixelRangeLike
from pnil_tf.contract.preprocessing import Preprocessing, preprocessing_of
from pnil_tf.contract.trace import draws_numbers, traced_or_none
from pnil_tf.errors import UserError, argument, reason
from pnil_tf.input_gradient import quick_input_gradients
from pnil_tf.tensors import Answers, AnyModel, Call, Images, Logits, Pixels

_EXAMPLES = 4


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A classifier of images.

    Three views of one model, all of which work in a `tf.function` and pass gradients on to the
    images as far as the model lets them:

    - `predict(unit)`: what attacks, judge and evaluation call. Images in [0, 1] -> logits of
      every class, float32 `(batch, classes)`; a binary model with one output z has `[0, z]`.
    - `logits(pixels, training)`: what training calls. The model's own pixels -> its own logits,
      float32 `(batch, outputs.count)`; `outputs.activation` makes of them what the model answers
      and a Keras loss takes.
    - `call(pixels, training)`: the model's own outputs.

    Args:
        model: What the user handed in: a Keras model or layer, or a callable.
        call: `(pixels, training) -> outputs`, one draw of the model's noise per call. Stock
            random layers of Keras follow the surrounding noise scope where it has a seed and
            `training` is False; in training the caller decides (`rng.stateless_layers`).
        outputs: What the outputs are.
        pixel_range: The pixels that the model takes.
        found_range: The range that its own preprocessing suits, if that tells.
        image_shape: `(height, width, channels)`; `None` where the model leaves a size open.
        in_graph: Whether TensorFlow can trace the model. Otherwise it is Python code.
        draws: Whether its graph at inference draws random numbers with this package's noise off.
        preprocessing_understood: Whether what the model does to its pixels first could be read.
    """

    model: AnyModel
    call: Call
    outputs: Outputs
    pixel_range: PixelRange
    found_range: PixelRange | None
    image_shape: tuple[int | None, ...]
    in_graph: bool = True
    draws: bool = False
    preprocessing_understood: bool = True

    @property
    def classes(self) -> int:
        """Number of classes, at least 2."""
        return self.outputs.classes

    def logits(self, pixels: Pixels, training: bool = False) -> Logits:
        """The model's own logits, float32 `(batch, outputs.count)`, of its own pixels."""
        return self.outputs.logits(self.call(pixels, training))

    def predict(self, unit: Images) -> Logits:
        """Logits of every class, float32 `(batch, classes)`, of images in [0, 1]."""
        pixels = self.pixel_range.from_unit(tf.cast(unit, tf.float32))
        return self.outputs.per_class(self.logits(pixels))

    def describe(self) -> dict[str, Any]:
        """What a record of a run must say about its model, ready for JSON."""
        return {
            "num_classes": self.classes,
            "outputs": self.outputs.kind,
            "pixel_range": [self.pixel_range.low, self.pixel_range.high],
        }


def classifier_of(
    model: AnyModel,
    images: np.ndarray | None = None,
    *,
    image_shape: Sequence[int | None] | None = None,
    pixel_range: PixelRangeLike | None = None,
    outputs: str | None = None,
    probabilities: bool = False,
) -> Classifier:
    """Looks at a model and makes a `Classifier` of it.

    Args:
        model: A Keras model or layer, or any callable from pixels to logits or probabilities.
        images: Some real images in [0, 1], float32 `(n, height, width, channels)`, to try the
            model on; random ones by default.
        image_shape: `(height, width, channels)`, where there are no images; a Keras model that
            knows its input needs neither.
        pixel_range: `(low, high)` of the model's pixels; by default the range that its own
            preprocessing suits, and [0, 1] where it has none.
        outputs: What the outputs are, one of `outputs.KINDS`, where the model leaves it open.
        probabilities: Whether outputs between 0 and 1 of which nothing else tells what they are
            are probabilities, as a loss may say.

    Raises:
        UserError: If it is no classifier of images with one input and one output, or cannot be
            called.
    """
    if outputs is not None and outputs not in KINDS:
        raise UserError(f"The outputs are one of {', '.join(KINDS)}. Received: {outputs!r}.")
    given = None if pixel_range is None else PixelRange.of(pixel_range)
    is_keras = isinstance(model, keras.Layer)
    if not is_keras and not callable(model):
        raise UserError(
            "A model must be a Keras model, a callable from images to logits, or the path of a "
            f"saved one. Received: {type(model).__name__}."
        )
    if is_keras:
        check_input(model)
    if images is not None:
        image_shape = tuple(images.shape[1:])
        examples = np.asarray(images[:_EXAMPLES], np.float32)
    else:
        image_shape = image_shape_of(model) if image_shape is None else tuple(image_shape)
        examples = random_images(image_shape, fixed_batch(model) or _EXAMPLES)
    call = _keras_call(model) if is_keras else _plain_call(model)
    if isinstance(model, keras.Layer) and not model.built:
        checked_outputs(model, examples)  # its variables must exist before a graph is made

    trace = traced_or_none(_silent(model, call), image_shape)
    if trace is not None and _has_unknown_shape(trace.outputs):
        count = checked_outputs(_silent(model, call), examples).shape[1]
        call = _of_known_shape(call, count)
        trace = traced_or_none(_silent(model, call), image_shape)
    silent = _silent(model, call)
    if trace is not None and not _is_rows(trace.outputs):
        trace = None
    begins = Preprocessing(None) if trace is None else preprocessing_of(trace)
    chosen = given or begins.pixel_range or UNIT
    warn_of_other_ranges(model, chosen)

    def values() -> np.ndarray:
        found = checked_outputs(silent, chosen.from_unit(examples))
        finite = found[has_answer(found)]
        if len(finite):
            return finite
        check_nothing_masked(found)
        if outputs is None:
            kind = "of random pixels" if images is None else "of yours"
            raise UserError(
                f"Of {len(found)} images {kind} that the model was tried on none has a finite "
                "answer (NaN or infinity for all), so that nothing tells what it answers. Mend "
                f"the model, or say what it answers: {argument('outputs', KINDS[0])}, for example."
            )
        return np.zeros_like(found)  # which are of every kind

    return Classifier(
        model=model,
        call=call,
        outputs=(
            outputs_by_value(values(), outputs, probabilities)
            if trace is None
            else outputs_of(trace, values, outputs, probabilities)
        ),
        pixel_range=chosen,
        found_range=begins.pixel_range,
        preprocessing_understood=begins.understood,
        image_shape=tuple(image_shape),
        in_graph=trace is not None,
        draws=trace is not None and draws_numbers(trace.graph),
    )


def check_same_activation(classifier: Classifier) -> None:
    """Refuses a classifier that ends in another activation in training than at inference.

    A loss would be chosen by the one and given the other.

    Raises:
        UserError: If so.
    """
    silent = _silent(classifier.model, classifier.call, training=True)
    trace = traced_or_none(silent, classifier.image_shape)
    if trace is None or not (classifier.outputs.exact and _is_rows(trace.outputs)):
        return
    here = classifier.outputs.activation_name
    there = (found_activation(trace.outputs) or (None,))[0]
    if here != there:
        raise UserError(
            f"The classifier ends in {here or 'no activation'} at inference, and in "
            f"{there or 'no activation'} in training, so that no loss fits both. Let it answer the "
            "same in both, whatever training says, and choose the loss by that."
        )


def preprocessing_inside(model: keras.Layer, image_shape: Sequence[int | None]) -> Preprocessing:
    """What a built Keras model does to its pixels first.

    Args:
        model: The model.
        image_shape: `(height, width, channels)`.
    """
    trace = traced_or_none(_silent(model, _keras_call(model)), image_shape)
    return Preprocessing(None) if trace is None else preprocessing_of(trace)


def image_shape_of(model: AnyModel, declared: bool = False) -> tuple[int | None, ...]:
    """The shape of one image that a Keras model was built for.

    Args:
        model: The model.
        declared: Whether the model itself must say it; a subclassed one may take other shapes than
            those that it was built with.

    Raises:
        UserError: If it does not say.
    """
    shape = getattr(model, "input_shape", None)
    if shape is None and isinstance(model, keras.Layer) and not declared:
        shape = (model.get_build_config() or {}).get("input_shape")
    if not isinstance(shape, (list, tuple)) or not all(
        isinstance(size, int | None) for size in shape
    ):
        raise UserError(
            f"The model does not say which images it takes. Received: {type(model).__name__}. "
            "Call it on a batch first, or give it an Input."
        )
    return tuple(shape[1:])


def random_images(image_shape: Sequence[int | None], count: int = _EXAMPLES) -> np.ndarray:
    """Images of noise in [0, 1], float32; sizes that are open become 32."""
    shape = [count, *(size or 32 for size in image_shape)]
    return np.random.default_rng(0).random(shape, np.float32)


def checked_outputs(function: Callable[[Pixels], Answers], pixels: np.ndarray) -> np.ndarray:
    """Calls a model on a batch, and returns its outputs, float32 `(batch, count)`.

    Raises:
        UserError: If the model cannot be called, or answers with something else than one row of
            numbers for each image; they need not be finite.
    """
    try:
        answer = function(tf.constant(pixels, tf.float32))
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"The model cannot be called on images of shape {tuple(pixels.shape)}: {reason(error)}"
        ) from error
    if isinstance(answer, (dict, list, tuple)):
        raise UserError(
            "A classifier answers with one array, not with a dictionary or list of them. Received: "
            f"a {type(answer).__name__} of {len(answer)}. Pass a model of the output that "
            "classifies, for example "
            f"keras.Model(model.input, model.output[{_first_key(answer)!r}])."
        )
    try:
        values = np.asarray(answer, np.float32)
    except (TypeError, ValueError):
        raise UserError(
            "The model must answer with one array of logits. "
            f"Received: {type(answer).__name__}. Wrap it in a function that returns the logits."
        ) from None
    if values.ndim > 2 and values.shape[0] == len(pixels):
        raise UserError(
            "A classifier answers with one row of numbers for each image. Received: shape "
            f"{values.shape}, as for segmentation or detection. Only whole images are classified "
            "here."
        )
    if values.ndim != 2 or values.shape[0] != len(pixels) or not values.shape[1]:
        raise UserError(
            "The model must answer with one row of logits for each image. Received: shape "
            f"{values.shape} for {len(pixels)} images."
        )
    return values


def has_answer(outputs: np.ndarray) -> np.ndarray:
    """Which images are answered, bool `(n,)`, by outputs `(n, count)` that are all finite."""
    answered: np.ndarray = np.isfinite(outputs).all(axis=1)
    return answered


def check_nothing_masked(outputs: np.ndarray) -> None:
    """Sees that no mask keeps outputs `(n, count)` from being finite.

    Raises:
        UserError: If some classes are minus infinity in all of them, and the others finite.
    """
    masked = np.isneginf(outputs).all(axis=0)
    if masked.any() and not masked.all() and np.isfinite(outputs[:, ~masked]).all():
        classes = ", ".join(map(str, np.flatnonzero(masked)))
        raise UserError(
            "The model's logits are minus infinity for these classes, whatever the image: "
            f"{classes}. Logits must be finite: mask the classes by a large negative number "
            "instead, such as -1e4."
        )


def _first_key(answer: Any) -> Any:
    return next(iter(answer)) if isinstance(answer, dict) else 0


def _of_known_shape(call: Call, count: int) -> Call:
    """A model whose outputs are `(batch, count)`, which its graph does not know."""
    return lambda pixels, training: tf.ensure_shape(call(pixels, training), [None, count])


def _keras_call(model: keras.Layer) -> Call:
    def call(pixels: Pixels, training: bool) -> Answers:
        with contextlib.ExitStack() as stack:
            stack.enter_context(quick_input_gradients(model))
            stack.enter_context(fused_batch_norm(model))
            # Layers that hold a SeedGenerator and are random at inference follow the scope, too.
            if not training and rng.in_seeded_scope() and rng.has_random_layers(model):
                stack.enter_context(rng.stateless_layers(model, seeds_alone=True))
            return model(pixels, training=training)

    return call


def _silent(model: AnyModel, call: Call, training: bool = False) -> Callable[[Pixels], Answers]:
    """A model's outputs of its pixels, without a trace in its random layers."""

    def silent(pixels: Pixels) -> Answers:
        if not isinstance(model, keras.Layer):
            return call(pixels, training)
        with rng.stateless_layers(model, rng.make_seed(0)):
            return call(pixels, training)

    return silent


def _plain_call(function: Callable[[Pixels], Answers]) -> Call:
    return lambda pixels, training: function(pixels)


def fixed_batch(model: AnyModel) -> int | None:
    """The batch size that a Keras model was built for, if it takes no other."""
    shape = getattr(model, "input_shape", None)
    return shape[0] if isinstance(shape, tuple) and isinstance(shape[0], int) else None


def check_input(model: keras.Layer) -> None:
    """Refuses a Keras model that takes more than images.

    Raises:
        UserError: If it has several inputs.
    """
    inputs = getattr(model, "inputs", None)
    if inputs and len(inputs) != 1:
        raise UserError(
            f"A classifier of images has one input. Received: {model.name!r} with {len(inputs)}. "
            "Pass a model of the images alone."
        )


def _has_unknown_shape(outputs: Answers) -> bool:
    """Whether a graph has forgotten how many numbers there are for an image (`tf.py_function`)."""
    return tf.is_symbolic_tensor(outputs) and (
        outputs.shape.rank is None or (outputs.shape.rank == 2 and outputs.shape[1] is None)
    )


def _is_rows(outputs: Any) -> bool:
    """Whether what a graph answers is `(batch, count)`."""
    return bool(isinstance(outputs, tf.Tensor) and outputs.shape.rank == 2 and outputs.shape[1])
