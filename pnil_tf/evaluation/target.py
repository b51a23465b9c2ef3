"""The model under test, in the one form in which the rest of the evaluation sees it."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.errors import UserError
from pnil_tf.input_gradient import quick_input_gradients
from pnil_tf.keras_internals import all_layers, attached_logits
from pnil_tf.layers import PNILLayer
from pnil_tf.training.model import AdversarialModel

Predict = Callable[[Any], Any]
"""Images `(batch, height, width, channels)` -> logits `(batch, classes)`, float32."""

_EXAMPLES = 16
_TRIES = 8
_SMALLEST = np.finfo(np.float32).tiny


@dataclasses.dataclass(frozen=True)
class Target:
    """A classifier to evaluate.

    Args:
        predict: The classifier, one draw of its noise per call. It works within a
            `tf.function`; gradients pass through it as far as the model lets them.
        num_classes: Number of logits.
        input_shape: `(height, width, channels)`.
        stochastic: Whether two predictions of one input differ.
        repeatable: Whether the noise follows the surrounding noise scope. A model that draws
            by itself gives other numbers in every evaluation.
        outputs: `"logits"`, or `"probabilities"` that `predict` turns into logits.
        pnil_layers: The noise layers found in the model.
        noise_is_ours: Whether all of the noise comes from them, so that it can be frozen,
            mirrored or removed.
        kind: What the user handed in, one phrase.
    """

    predict: Predict
    num_classes: int
    input_shape: tuple[int, int, int]
    stochastic: bool
    repeatable: bool
    outputs: str
    pnil_layers: tuple[PNILLayer, ...] = ()
    noise_is_ours: bool = False
    kind: str = "callable"

    def noise_free(self) -> Predict:
        """The same model with the noise of its PNIL layers switched off."""

        def predict(x: Any) -> Any:
            with rng.noise_off():
                return self.predict(x)

        return predict

    def frozen(self, seed: int) -> Predict:
        """The same model with the noise of its PNIL layers frozen to one constant."""

        def predict(x: Any) -> Any:
            with rng.noise_scope(seed, frozen=True):
                return self.predict(x)

        return predict

    def describe(self) -> dict[str, Any]:
        """What a result must say about its model, ready for JSON."""
        return {
            "kind": self.kind,
            "num_classes": self.num_classes,
            "input_shape": list(self.input_shape),
            "stochastic": self.stochastic,
            "repeatable": self.repeatable,
            "outputs": self.outputs,
            "pnil_layers": [
                {"name": layer.name, "noise_at_inference": layer.noise_at_inference}
                for layer in self.pnil_layers
            ],
        }


def as_target(model: Any, images: np.ndarray, kind: str | None = None) -> Target:
    """Makes a `Target` of anything that classifies.

    Args:
        model: A Keras model or layer, an `AdversarialModel`, or any callable from images to
            logits or probabilities. One that TensorFlow cannot trace, or that would lose its
            randomness in a graph, is called eagerly within the graph.
        images: float32 `(n, height, width, channels)`, n >= 1: real images to try it on.
        kind: What to call the model in results.

    Raises:
        UserError: If it cannot be called on such images, or answers with something else than
            one finite row of at least two numbers for each.
    """
    model = unwrapped(model)
    examples = tf.constant(images[:_EXAMPLES], tf.float32)
    layers: tuple[PNILLayer, ...] = ()
    if isinstance(model, keras.Layer):
        _check_input_shape(model, examples)
        layers = tuple(layer for layer in all_layers(model) if isinstance(layer, PNILLayer))
        raw, kind = _from_keras(model), kind or "Keras model"
    elif callable(model):
        raw, kind = model, kind or "callable"
    else:
        raise UserError(
            "A model must be a Keras model, a callable from images to logits, or the path of a "
            f"saved one. Received: {type(model).__name__}."
        )
    first = _try(raw, examples)
    # Several tries: noise that is one coin flip for a whole batch shows in half of them.
    stochastic = any(_differ(first, _try(raw, examples)) for _ in range(_TRIES))
    if not isinstance(model, keras.Layer):
        raw = _traceable(raw, examples, first, stochastic)
    probabilities = _are_probabilities(first)
    predict = _logits_of(raw, first.shape[1], probabilities)
    repeatable = not stochastic or _repeats(predict, examples)
    return Target(
        predict=predict,
        num_classes=first.shape[1],
        input_shape=tuple(examples.shape[1:]),
        stochastic=stochastic,
        repeatable=repeatable,
        outputs="probabilities" if probabilities else "logits",
        pnil_layers=layers,
        noise_is_ours=bool(layers) and stochastic and repeatable and _all_off(predict, examples),
        kind=kind,
    )


def unwrapped(model: Any) -> Any:
    """The classifier of an `AdversarialModel`; any other model as it is."""
    return model.classifier if isinstance(model, AdversarialModel) else model


def _from_keras(model: keras.Layer) -> Predict:
    has_seeds = rng.has_random_layers(model)

    def predict(x: Any) -> Any:
        with contextlib.ExitStack() as stack:
            stack.enter_context(quick_input_gradients(model))
            # Layers that hold a SeedGenerator and are random at inference follow the scope, too.
            if has_seeds and rng.in_seeded_scope():
                stack.enter_context(rng.stateless_layers(model))
            return model(x, training=False)

    return predict


def _check_input_shape(model: keras.Layer, examples: Any) -> None:
    expected = getattr(model, "input_shape", None)
    if not isinstance(expected, tuple) or not all(isinstance(d, int | None) for d in expected):
        return
    found = tuple(examples.shape)
    fits = len(expected) == len(found) and all(
        e in (None, f) for e, f in zip(expected[1:], found[1:], strict=True)
    )
    if not fits:
        raise UserError(
            f"The model takes images of shape {expected[1:]}, but the data set's have {found[1:]}. "
            "Evaluate it on the data it was trained for."
        )


def _try(predict: Predict, examples: Any) -> np.ndarray:
    """Logits of one call, checked; the model's own mistakes become one sentence."""
    try:
        outputs = predict(examples)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"The model cannot be called on images of shape {tuple(examples.shape)}: {reason}"
        ) from error
    try:
        logits = np.asarray(outputs, np.float32)
    except (TypeError, ValueError):
        raise UserError(
            "The model must answer with one array of logits. "
            f"Received: {type(outputs).__name__}. Wrap it in a function that returns the logits."
        ) from None
    if logits.ndim != 2 or logits.shape[0] != len(examples) or logits.shape[1] < 2:
        raise UserError(
            "The model must answer with one row of logits for each image, one for each of two or "
            f"more classes. Received: shape {logits.shape} for {len(examples)} images."
        )
    if not np.isfinite(logits).all():
        raise UserError("The model's logits on unperturbed images are not finite. Train it anew.")
    return logits


def _differ(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two outputs differ by more than the order of additions can explain."""
    return bool(np.abs(a - b).max() > 1e-5 * max(float(np.abs(a).max()), 1e-30))


def _traceable(raw: Predict, examples: Any, eager: np.ndarray, stochastic: bool) -> Predict:
    """Returns `raw`, or `raw` called eagerly within a graph where a graph would change it."""
    graph = tf.function(raw)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            first, second = (np.asarray(graph(examples), np.float32) for _ in range(2))
        same = _differ(first, second) if stochastic else not _differ(eager, first)
        if same and first.shape == eager.shape:
            return raw
    except Exception:
        pass  # NumPy code, for example, cannot be traced: not a fault of the model
    x = tf.identity(examples)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = tf.convert_to_tensor(raw(x))
    differentiable = tape.gradient(outputs, x) is not None
    call = tf.py_function if differentiable else tf.numpy_function
    return lambda x: call(lambda values: tf.cast(raw(values), tf.float32), [x], tf.float32)


def _are_probabilities(outputs: np.ndarray) -> bool:
    return bool(outputs.min() >= 0 and np.abs(outputs.sum(axis=1) - 1).max() < 1e-3)


def _logits_of(raw: Predict, classes: int, probabilities: bool) -> Predict:
    """Float32 logits of a model that answers with logits or with probabilities.

    Keras leaves the logits on the output of a softmax; they are exact. Otherwise the logarithm
    of the probabilities serves: it differs from the logits by a constant for each image, which
    no loss sees, but a probability that has underflowed has lost its gradient.
    """

    def predict(x: Any) -> Any:
        outputs = raw(x)
        logits = attached_logits(outputs) if probabilities else outputs
        if logits is None:
            logits = tf.math.log(tf.maximum(tf.cast(outputs, tf.float32), _SMALLEST))
        return tf.ensure_shape(tf.cast(logits, tf.float32), [None, classes])

    return predict


def _repeats(predict: Predict, examples: Any) -> bool:
    """Whether one seed gives one prediction."""

    @tf.function
    def seeded() -> Any:
        with rng.noise_scope(0):
            return predict(examples)

    first = seeded().numpy()
    return not any(_differ(first, seeded().numpy()) for _ in range(_TRIES))


def _all_off(predict: Predict, examples: Any) -> bool:
    """Whether no randomness is left without the noise of the PNIL layers."""
    with rng.noise_off():
        first = predict(examples).numpy()
        return not any(_differ(first, predict(examples).numpy()) for _ in range(_TRIES))
