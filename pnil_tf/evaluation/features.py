"""What a Keras model makes of an image just before its last layer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from pnil_tf.keras_internals import all_layers

Function = Callable[[Any], Any]


@contextlib.contextmanager
def spy(layers: Sequence[keras.Layer]) -> Iterator[list[tuple[keras.Layer, Any]]]:
    """Within it, every call of one of these layers is noted, with its first argument.

    Args:
        layers: The layers.

    Yields:
        `(layer, input)` of each call, in the order of the calls.
    """
    seen: list[tuple[keras.Layer, Any]] = []

    def noting(layer: keras.Layer, call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(x: Any, *args: Any, **options: Any) -> Any:
            seen.append((layer, x))
            return call(x, *args, **options)

        return noted

    for layer in layers:
        # Past Keras' own setter, which would track it: nothing of this may stay or be saved.
        layer.__dict__["call"] = noting(layer, layer.call)
    try:
        yield seen
    finally:
        for layer in layers:
            del layer.__dict__["call"]


def penultimate(model: keras.Layer, predict: Function, examples: Any) -> Function | None:
    """Returns the function from images to the input of the last layer with weights.

    Args:
        model: The model.
        predict: What calls it, on images `(batch, height, width, channels)`.
        examples: float32 images to try it on.

    Returns:
        A function to float32 features `(batch, number)` with gradients, or None where there is
        no such layer, or its input does not follow the image.
    """
    weighted = [layer for layer in all_layers(model) if layer.weights and not _inner(layer)]
    with spy(weighted) as calls:
        predict(examples)
    if not calls:
        return None
    head = calls[-1][0]

    def features(x: Any) -> Any:
        return tf.reshape(tf.cast(_given(head, predict, x)[1], tf.float32), [tf.shape(x)[0], -1])

    @tf.function(autograph=False)
    def on_the_way(x: Any) -> bool:
        # A step with a gradient of its own may hide the layer: attacks do not pass through it.
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            outputs, given = _given(head, predict, x)
        slopes = tape.gradient(given, x), tape.gradient(outputs, given)
        return not any(slope is None for slope in slopes)

    try:
        return features if on_the_way(examples) else None
    except (LookupError, tf.errors.OpError, ValueError, TypeError):
        # An operation has no gradient, or the layer stands inside a loop or a branch, out of which
        # what it is given cannot be taken.
        return None


def _given(layer: keras.Layer, predict: Function, x: Any) -> tuple[Any, Any]:
    """The outputs for images, and what the layer was given."""
    with spy([layer]) as calls:
        outputs = predict(x)
    return outputs, calls[-1][1]


def _inner(layer: keras.Layer) -> bool:
    return any(True for _ in all_layers(layer, include_self=False))
