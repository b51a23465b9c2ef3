"""Every private name of Keras and TensorFlow that this package leans on, each with a test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras


def attached_logits(outputs: Any) -> Any | None:
    """The tensor that Keras' softmax or sigmoid was made of, where Keras left it on the result."""
    return getattr(outputs, "_keras_logits", None)


def all_layers(model: keras.Layer) -> Iterator[keras.Layer]:
    """The model itself and every layer within it, nested ones and tracked attributes included."""
    yield from model._flatten_layers(include_self=True, recursive=True)
