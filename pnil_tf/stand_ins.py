"""Faster computations in the place of a layer's own, for as long as a model is called."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import tensorflow as tf


def on_one_cpu() -> bool:
    """Whether TensorFlow sees no GPU here, and only one replica runs.

    Several are traced in threads that share the layers.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    return replicas == 1 and not tf.config.list_logical_devices("GPU")


@contextlib.contextmanager
def standing_in(
    layers: Iterable[keras.Layer], method: str, function: Callable[..., Any]
) -> Iterator[None]:
    """Within it, `function(layer, ...)` answers for a method of these layers."""
    with contextlib.ExitStack() as stack:
        for layer in layers:
            stack.enter_context(answering(layer, method, functools.partial(function, layer)))
        yield


@contextlib.contextmanager
def answering(layer: keras.Layer, method: str, answer: Callable[..., Any]) -> Iterator[None]:
    """Within it, `answer(...)` answers for a method of a layer; what was its own comes back."""
    own = {method: layer.__dict__[method]} if method in layer.__dict__ else {}
    # Past Keras' own setter, which would track it: nothing of this may stay or be saved.
    layer.__dict__[method] = answer
    try:
        yield
    finally:
        del layer.__dict__[method]
        layer.__dict__.update(own)
