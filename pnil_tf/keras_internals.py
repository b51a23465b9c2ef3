"""Every private name of Keras and TensorFlow that this package leans on, each with a test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
from tensorflow.python.saved_model import loader_impl


def attached_logits(outputs: Any) -> Any | None:
    """The tensor that Keras' softmax or sigmoid was made of, where Keras left it on the result."""
    return getattr(outputs, "_keras_logits", None)


def all_layers(model: keras.Layer, include_self: bool = True) -> Iterator[keras.Layer]:
    """The model itself and every layer within it, nested ones and tracked attributes included."""
    yield from model._flatten_layers(include_self=include_self, recursive=True)


def operation_of(tensor: Any) -> Any:
    """The layer or operation whose result a symbolic tensor of a functional model is."""
    return tensor._keras_history.operation


def parse_saved_model(folder: str) -> Any:
    """The program in a SavedModel's folder, read as TensorFlow's loader reads it, and not run.

    Raises:
        Exception: Whatever TensorFlow raises for a file that is damaged.
    """
    return loader_impl.parse_saved_model(folder)
