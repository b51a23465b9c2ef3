"""Putting a `PNILLayer` into a model that exists already."""

from __future__ import annotations

import difflib
from typing import Any

import keras

from pnil_tf.errors import UserError
from pnil_tf.keras_internals import operation_of
from pnil_tf.layers import PNILLayer


def add_pnil(model: keras.Model, before: str | None = None, **layer_arguments: Any) -> keras.Model:
    """Returns a copy of a model with a `PNILLayer` inserted; the weights are kept.

    The copy's weights start equal to the model's and are its own: the given model stays as it
    is, is not affected by training the copy, and can serve as the baseline. The copy is not
    compiled. A Sequential model comes back as a functional one, with the same layers by the
    same names; a subclassed model as a functional model that holds the copied model as one
    layer.

    In front, the noise is in the units of the raw input: if the model itself begins with a
    preprocessing layer (`Rescaling`, or those inside many of `keras.applications`), it is added
    before that layer, to pixels from 0 to 255 for example, and `bias_initializer` must suit
    them. `before` the layer that follows the preprocessing, it is in the units there.

    Args:
        model: A built Keras model: Sequential, functional or subclassed.
        before: Name of the layer whose input becomes noisy; the model's input by default. A
            layer inside a nested model is named with it, as `"backbone/conv1"`.
        **layer_arguments: Passed on to `PNILLayer`.

    Raises:
        UserError: If the model is not built, has several inputs and no layer is named, has no
            layer of this name, the layer takes several tensors, or a subclassed model is to be
            opened or cannot be copied (it needs `get_config`).

    Example:
    >>> hardened = add_pnil(keras.applications.MobileNetV2(weights=None), name="pnil")
    """
    if isinstance(getattr(model, "classifier", None), keras.Model):
        raise UserError(
            "PNIL belongs into the classifier. Received: a model around one. Pass its "
            "`.classifier`, and put the result into a new AdversarialModel."
        )
    if not isinstance(before, str | None):
        raise UserError(
            f"`before` is the name of a layer. Received: {type(before).__name__}. Pass its `.name`."
        )
    if not isinstance(model, keras.Model):
        raise UserError(f"add_pnil takes a keras.Model. Received: {type(model).__name__}.")
    if not model.built:
        raise UserError(
            f"PNIL needs the shape of its input. Received: {model.name!r}, a model that is not "
            "built. Call it on a batch (or give it an Input) first."
        )
    layer_arguments.setdefault("name", _free_name(model))
    pnil = PNILLayer(**layer_arguments)
    graph = _graph(model)
    if graph is None:
        return _wrapped(model, before, pnil)
    if before is None:
        _check_one_input(model, len(graph.inputs))
    return _inserted(graph, before, pnil)


def _graph(model: keras.Model) -> keras.Model | None:
    """The model as an uncompiled functional model over the same layers, if it is a graph."""
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    if getattr(model, "inputs", None):  # subclassed models have none
        return keras.Model(model.input, model.output, name=model.name)
    return None


def _inserted(graph: keras.Model, before: str | None, pnil: PNILLayer) -> keras.Model:
    layers = {layer.name: layer for layer in _layers(graph)}
    outer, _, inner = (before or "").partition("/")
    if inner and before not in layers and isinstance(layers.get(outer), keras.Model):
        nested = _graph(layers[outer])
        if nested is None:
            raise UserError(
                "A subclassed model hides how its layers are connected. Received: "
                f"before={before!r}. Name {outer!r} to put the layer in front of it."
            )
        return _rebuilt(graph, replaced=_inserted(nested, inner, pnil))
    if before is not None:
        _check_layer(graph, before)
    return _rebuilt(graph, before, pnil)


def _rebuilt(
    graph: keras.Model,
    before: str | None = None,
    pnil: PNILLayer | None = None,
    replaced: keras.Model | None = None,
) -> keras.Model:
    """A copy with the noise before a layer or in front, or with a nested model replaced."""

    def fresh(tensor: Any) -> Any:
        name = operation_of(tensor).name
        return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name)

    inputs = keras.tree.map_structure(fresh, graph.input)
    noisy: dict[int, Any] = {}
    if before is None and pnil is not None:
        (only,) = keras.tree.flatten(inputs)
        noisy[id(only)] = pnil(only)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if layer.name == before and pnil is not None:
            if args:
                args = (pnil(args[0]), *args[1:])
            else:
                name, value = next(iter(kwargs.items()))
                kwargs = {**kwargs, name: pnil(value)}
        if replaced is not None and layer.name == replaced.name:
            layer = replaced
        args, kwargs = keras.tree.map_structure(
            lambda value: noisy.get(id(value), value), (args, kwargs)
        )
        return layer(*args, **kwargs)

    copy = keras.models.clone_model(graph, input_tensors=inputs, call_function=call)
    for layer in _layers(graph):
        if replaced is None or layer.name != replaced.name:
            copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy


def _wrapped(model: keras.Model, before: str | None, pnil: PNILLayer) -> keras.Model:
    if before is not None:
        raise UserError(
            "A subclassed model hides how its layers are connected. Received: "
            f"before={before!r} for {type(model).__name__}. Leave `before` out to put the layer in "
            "front, or call a PNILLayer in the model's own `call`."
        )
    shape = (model.get_build_config() or {}).get("input_shape")
    if not isinstance(shape, (list, tuple)) or not all(
        size is None or isinstance(size, int) for size in shape
    ):
        raise UserError(
            "PNIL in front needs a model with one input of known shape. Received: "
            f"{type(model).__name__}, built with {shape!r}."
        )
    try:
        copy = keras.models.clone_model(model)
        copy.build(shape)
        copy.set_weights(model.get_weights())
    except (NotImplementedError, TypeError, ValueError) as error:
        raise UserError(
            f"{type(model).__name__} cannot be copied: {error} Give it a `get_config` that "
            "returns its constructor's arguments (saving it needs that too)."
        ) from error
    inputs = keras.Input(batch_shape=(None, *shape[1:]))
    return keras.Model(inputs, copy(pnil(inputs)), name=model.name)


def _check_one_input(model: keras.Model, inputs: int) -> None:
    if inputs != 1:
        raise UserError(
            f"PNIL in front needs a model with one input. Received: {model.name!r} with {inputs}. "
            "Name the layer whose input becomes noisy with `before`."
        )


def _check_layer(graph: keras.Model, name: str) -> None:
    layers = _layers(graph)
    names = [layer.name for layer in layers]
    if name in {layer.name for layer in graph.layers} - set(names):
        raise UserError(
            f"PNIL goes behind an input, not before it. Received: before={name!r}, an input. Leave "
            "`before` out to put the layer in front, or name the layer that follows."
        )
    if name not in names:
        near = difflib.get_close_matches(name, names, n=5, cutoff=0.4) or names[:5]
        raise UserError(
            f"The model has no layer of this name. Received: before={name!r}. Layers with the "
            f"nearest names: {', '.join(near)}."
        )
    arguments = layers[names.index(name)].input
    if isinstance(arguments, (list, tuple, dict)):
        raise UserError(
            f"PNIL goes before a layer that takes one tensor. Received: before={name!r}, which "
            f"takes {len(arguments)}. Name a layer before it."
        )


def _layers(graph: keras.Model) -> list[Any]:
    return [layer for layer in graph.layers if not isinstance(layer, keras.layers.InputLayer)]


def _free_name(model: keras.Model) -> str:
    taken = {layer.name for layer in getattr(model, "layers", [])}
    name, number = "pnil", 1
    while name in taken:
        name, number = f"pnil_{number}", number + 1
    return name
