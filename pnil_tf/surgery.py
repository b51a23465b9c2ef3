"""Putting a `PNILLayer` into a model that exists already."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.contract.classifier import image_shape_of, preprocessing_inside
from pnil_tf.contract.pixel_range import UNIT, PixelRange, PixelRangeLike
from pnil_tf.contract.range_inside import range_inside
from pnil_tf.copying import as_graph, copied
from pnil_tf.errors import UserError
from pnil_tf.keras_internals import operation_of, taken_by
from pnil_tf.layers import PNILLayer
from pnil_tf.vocabulary import INITIAL_SIGMA

_BATCH, _OPEN_SIZE = 2, 32


def add_pnil(
    model: keras.Model,
    before: str | None = None,
    *,
    initial_sigma: float = INITIAL_SIGMA,
    pixel_range: Sequence[float] | PixelRange | None = None,
    **layer_arguments: Any,
) -> keras.Model:
    """Returns a copy of a model with a `PNILLayer` inserted; all else is kept.

    Without the noise the copy computes what the model computes: it has the same weights, adapted
    statistics, vocabularies and states, and what is frozen stays frozen. They are its own: the
    given model stays as it is, is not affected by training the copy, and can serve as the baseline.
    The copy is not compiled. A Sequential model comes back as a functional one, with the same
    layers by the same names; a subclassed model as a functional model that holds the copied model
    as one layer. Functions inside `Lambda` layers are shared with the given model.

    The noise starts as a share of the range of the pixels that the layer sees. In front, these
    are the model's own: pixels from 0 to 255 if it begins with the `Rescaling` for them, for
    example. Between preprocessing and network, they are the preprocessed ones. Deeper inside there
    are no pixels, and `initial_sigma` is in the units there.

    Args:
        model: A built Keras model: Sequential, functional or subclassed.
        before: Name of the layer whose input becomes noisy; the model's input by default. A
            layer inside a nested model is named with it, as `"backbone/conv1"`, or alone where no
            other has its name.
        initial_sigma: Standard deviation with which the noise starts, > 0, as a share of the
            pixel range.
        pixel_range: Smallest and largest value of a pixel of the model's images, `(low, high)`.
            `None` finds it from the preprocessing inside the model, and takes (0, 1) without one;
            with a warning where the model does something to its pixels that does not tell.
        **layer_arguments: Passed on to `PNILLayer`.

    Raises:
        UserError: If the model is not built, has several inputs and no layer is named, has no
            layer of this name, the layer takes several tensors, or a subclassed model is to be
            opened or cannot be copied (it needs `get_config`), or the copy does not answer as the
            model does.

    Examples:
        >>> hardened = add_pnil(keras.applications.MobileNetV2(weights=None), name="pnil")
    """
    if isinstance(getattr(model, "classifier", None), keras.Model):
        raise UserError(
            "PNIL belongs in the classifier. Received: a model around one. Pass its "
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
    layer_arguments = {
        "name": _free_name(model),
        "initial_sigma": initial_sigma,
        **layer_arguments,
    }
    graph = as_graph(model)
    if graph is None:
        copy, inputs, seen = _wrapped(model, before, pixel_range, layer_arguments)
    else:
        if before is None:
            _check_one_input(model, len(graph.inputs))
        inputs, seen = graph.input, _range_of(graph, pixel_range)
        copy = _inserted(graph, before, seen, layer_arguments)
    _check_equal(model, copy, inputs, seen)
    return copy


def _check_equal(model: keras.Model, copy: keras.Model, inputs: Any, seen: PixelRange) -> None:
    """Compares a model with its copy on random inputs, the noise off.

    Raises:
        UserError: If they differ: some part of the model does not survive saving and loading.
    """
    values = keras.tree.map_structure(lambda tensor: _random_values(tensor, seen), inputs)

    def answers(of: keras.Model, seed: int) -> list[np.ndarray]:
        with rng.noise_off(), rng.stateless_layers(of, rng.make_seed(seed)):
            outputs = keras.tree.flatten(of(values, training=False))
        return [np.asarray(output, np.float64) for output in outputs]

    try:
        expected, again = answers(model, 0), answers(model, 1)
    except Exception:
        return  # random numbers are no inputs for this model: nothing can be compared
    if all(map(_equal, expected, again)) and not all(map(_equal, expected, answers(copy, 0))):
        raise UserError(
            f"The copy of {model.name!r} does not answer as the model does, with the noise off. "
            "Some layer keeps what it needs neither in its weights nor in its `get_config`. Check "
            "that the model is the same after saving and loading."
        )


def _random_values(tensor: Any, seen: PixelRange) -> Any:
    shape = [_BATCH if tensor.shape[0] is None else tensor.shape[0]]
    shape += [_OPEN_SIZE if size is None else size for size in tensor.shape[1:]]
    if tensor.dtype == "string":
        return tf.fill(shape, "")
    generator = np.random.default_rng(0)
    if keras.backend.is_float_dtype(tensor.dtype):
        return tf.cast(seen.from_unit(generator.random(shape)), tensor.dtype)
    return tf.cast(generator.integers(0, 2, shape), tensor.dtype)


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two outputs are the same but for the order of additions."""
    size = np.max(np.abs(a), initial=1e-30, where=np.isfinite(a))
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-3, atol=1e-3 * size, equal_nan=True)


def _range_of(
    model: keras.Model,
    pixel_range: PixelRangeLike | None,
    shape: Sequence[int | None] | None = None,
) -> PixelRange:
    """The range of a model's pixels: as given, as its preprocessing tells, or [0, 1]."""
    if pixel_range is not None:
        return PixelRange.of(pixel_range)
    if shape is None:
        inputs = model.inputs
        if len(inputs) != 1 or inputs[0].dtype == "string":
            return UNIT
        shape = inputs[0].shape[1:]
    found = preprocessing_inside(model, shape)
    if not found.understood:
        warnings.warn(
            f"What {model.name!r} does to its pixels first does not tell their range. {UNIT} is "
            "assumed, and the noise starts as a share of it: pass pixel_range if the model takes "
            "other pixels.",
            stacklevel=3,
        )
    return found.pixel_range or UNIT


def _inserted(
    graph: keras.Model, before: str | None, seen: PixelRange, layer_arguments: dict[str, Any]
) -> keras.Model:
    layers = {layer.name: layer for layer in _layers(graph)}
    before = _with_nested_model(graph, before)
    outer, _, inner = (before or "").partition("/")
    if inner and before not in layers and isinstance(layers.get(outer), keras.Model):
        nested = as_graph(layers[outer])
        if nested is None:
            raise UserError(
                "A subclassed model hides how its layers are connected. Received: "
                f"before={before!r}. Name {outer!r} to put the layer in front of it."
            )
        inside = _range_before(graph, layers[outer], seen)
        replacement = _inserted(nested, inner, inside, layer_arguments)
        return _rebuilt(graph, replaced=replacement)
    if before is not None:
        _check_layer(graph, before)
        seen = _range_before(graph, layers[before], seen)
    return _rebuilt(graph, before, PNILLayer(pixel_range=seen, **layer_arguments))


def _with_nested_model(graph: keras.Model, before: str | None) -> str | None:
    """The name of a layer, with the nested model that alone has one of this name."""
    if before is None or before in {layer.name for layer in graph.layers}:
        return before
    nested = [layer for layer in _layers(graph) if isinstance(layer, keras.Model)]
    inside = [model for model in nested if before in {layer.name for layer in model.layers}]
    return f"{inside[0].name}/{before}" if len(inside) == 1 else before


def _range_before(graph: keras.Model, layer: Any, seen: PixelRange) -> PixelRange:
    """The range of the pixels that reach a layer; [0, 1], which changes nothing, if none do."""
    taken = taken_by(graph, layer)
    if len(graph.inputs) != 1 or len(taken) != 1:
        return UNIT
    return range_inside(keras.Model(graph.inputs[0], taken[0]), seen) or UNIT


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

    def copy(layer: Any) -> Any:
        is_replaced = replaced is not None and layer.name == replaced.name
        return replaced if is_replaced else copied(layer)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if layer.name == before and pnil is not None:
            if args:
                args = (pnil(args[0]), *args[1:])
            else:
                name, value = next(iter(kwargs.items()))
                kwargs = {**kwargs, name: pnil(value)}
        args, kwargs = keras.tree.map_structure(
            lambda value: noisy.get(id(value), value), (args, kwargs)
        )
        return layer(*args, **kwargs)

    return keras.models.clone_model(
        graph, input_tensors=inputs, clone_function=copy, call_function=call
    )


def _wrapped(
    model: keras.Model,
    before: str | None,
    pixel_range: PixelRangeLike | None,
    layer_arguments: dict[str, Any],
) -> tuple[keras.Model, keras.KerasTensor, PixelRange]:
    """The copy; and the inputs of the model and their range."""
    if before is not None:
        raise UserError(
            "A subclassed model hides how its layers are connected. Received: "
            f"before={before!r} for {type(model).__name__}. Leave `before` out to put the layer in "
            "front, or call a PNILLayer in the model's own `call`."
        )
    shape = image_shape_of(model)
    seen = _range_of(model, pixel_range, shape)
    pnil = PNILLayer(pixel_range=seen, **layer_arguments)
    inputs = keras.Input(shape)
    try:
        copy = copied(model)
    except UserError as error:
        raise UserError(
            f"{error} Or call a PNILLayer first in the `call` of {type(model).__name__}."
        ) from error
    return keras.Model(inputs, copy(pnil(inputs)), name=model.name), inputs, seen


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
        nested = [layer for layer in layers if isinstance(layer, keras.Model)]
        every = [*names, *(layer.name for model in nested for layer in _layers(model))]
        near = difflib.get_close_matches(name, every, n=5, cutoff=0.4) or every[:5]
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
