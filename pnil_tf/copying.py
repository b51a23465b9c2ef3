"""Copies of Keras layers and models that keep everything, not the weights alone."""

from __future__ import annotations

import contextlib
import re
import tempfile
import types
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import keras

from pnil_tf.errors import UserError
from pnil_tf.keras_internals import Functional, all_layers, saved_layers


def copied(layer: Any) -> Any:
    """Returns a layer that is equal to the given one and shares no variable with it.

    It is saved and loaded, which is Keras' own way to bring along what is no weight: adapted
    statistics, vocabularies, states of random generators. Python functions, of `Lambda` layers for
    example, are not written down with it but shared. What is frozen in it is frozen in the copy. A
    copied model is not compiled.

    Args:
        layer: A layer or a model; or an operation of a functional model that is no layer.

    Raises:
        UserError: If it cannot be saved and loaded, or its copy has other layers while some are
            frozen.
    """
    if not isinstance(layer, keras.Layer):
        return type(layer).from_config(layer.get_config())
    try:
        with _known_to_keras(layer):
            copy = _saved_and_loaded(layer)
    except Exception as error:  # whatever a stranger's `get_config` or `build` may raise
        raise UserError(
            f"{type(layer).__name__} cannot be copied: {_said_shortly(error)}. Give it a "
            "`get_config` that returns its constructor's arguments (saving it needs that too)."
        ) from error
    _keep_frozen(layer, copy)
    return copy


def as_graph(model: Any) -> keras.Model | None:
    """A model as an uncompiled functional model over the same layers, if it is a graph."""
    if not isinstance(model, keras.Sequential | Functional) or not model.inputs:
        return None  # subclassed, or not built yet
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return keras.Model(model.input, model.output, name=model.name)


def _said_shortly(error: Exception) -> str:
    """What is wrong with a layer, of the pages that Keras writes about it."""
    text = str(error).strip()
    unwritten = re.match(r"Object (\w+) was created by passing\s+non-serializable", text)
    if unwritten:
        return f"{unwritten[1]} has no `get_config` of its own"
    # Keras wraps what it was told, the cause last; or begins with it, before an example.
    cause = text.rpartition("Error encountered during deserialization: ")[2]
    return " ".join(cause.split("\n\n")[0].split()).rstrip(".") or type(error).__name__


def _saved_and_loaded(layer: keras.Layer) -> keras.Layer:
    if not isinstance(layer, keras.Model):
        return deepcopy(layer)  # for which Keras saves and loads in memory
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        keras.saving.save_model(layer, path)
        return keras.saving.load_model(path, compile=False, safe_mode=True)


def _keep_frozen(layer: keras.Layer, copy: keras.Layer) -> None:
    """Lets training change in a copy what it changes in the original, and nothing else.

    A configuration does not tell it of the layers that a constructor makes.
    """
    parts, twins = saved_layers(layer), saved_layers(copy)
    if [*map(type, parts)] != [*map(type, twins)]:
        frozen = [part.name for part in parts if not part.trainable]
        if frozen:
            raise UserError(
                f"{type(layer).__name__} cannot be copied with {frozen[0]!r} frozen: its copy has "
                "other layers. Make all of them in the constructor, or unfreeze them here and "
                "freeze them in the copy."
            )
        return

    # Whoever sets a layer's `trainable` sets it for all within: parents first, and a parent holds
    # more layers than any of its children. Single weights may differ from their layer.
    def held(pair: tuple[keras.Layer, keras.Layer]) -> int:
        return len(list(all_layers(pair[0])))

    for part, twin in sorted(zip(parts, twins, strict=True), key=held, reverse=True):
        if twin.trainable != part.trainable:
            twin.trainable = part.trainable
        # A layer's own come first; those of LoRA may have been merged into them by saving.
        for weight, its_twin in zip(part.weights, twin.weights, strict=False):
            its_twin.trainable = weight.trainable


@contextlib.contextmanager
def _known_to_keras(layer: keras.Layer) -> Iterator[None]:
    """Within it Keras finds the classes and functions that a layer is made of by their names.

    A function gets a name of its own for that time. So a lambda is found like any other, instead
    of being written down as code that has lost what it refers to. So does a class that shares its
    name with another one.
    """
    objects: dict[str, Any] = {}
    names: dict[Any, str] = {}
    for part in all_layers(layer):
        for value in (part, *vars(part).values()):
            kind = value if isinstance(value, types.FunctionType) else type(value)
            if (kind.__module__ or "").startswith("keras.") or kind in names:
                continue
            is_function = isinstance(kind, types.FunctionType)
            if not is_function and not hasattr(kind, "get_config"):
                continue
            name = keras.saving.get_registered_name(kind)
            if is_function or objects.get(name, kind) is not kind:
                names[kind] = kind.__name__
                kind.__name__ = f"{kind.__name__}_{len(names)}"
                objects[kind.__name__] = kind
                name = keras.saving.get_registered_name(kind)
            objects[name] = kind
    try:
        with keras.saving.custom_object_scope(objects):
            yield
    finally:
        for kind, name in names.items():
            kind.__name__ = name
