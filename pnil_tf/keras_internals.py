"""Every private name of Keras and TensorFlow that this package leans on, each with a test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.layers.preprocessing.image_preprocessing.base_image_preprocessing_layer import (
    BaseImagePreprocessingLayer as ImagePreprocessing,
)
from keras.src.losses.losses import LossFunctionWrapper
from keras.src.models.functional import Functional
from keras.src.saving.saving_lib import _walk_saveable
from tensorflow.python.framework import op_def_registry
from tensorflow.python.ops.control_flow_v2_func_graphs import CondBranchFuncGraph
from tensorflow.python.saved_model import loader_impl

__all__ = [
    "Functional",
    "HeldState",
    "ImagePreprocessing",
    "LossFunctionWrapper",
    "all_layers",
    "answers_as_its_graph",
    "attached_logits",
    "called_with",
    "exempt_alike",
    "global_seed_state",
    "in_branch",
    "is_operation",
    "is_stateful",
    "operation_of",
    "parse_saved_model",
    "saved_layers",
    "shapes_of_variables",
    "taken_by",
    "takers",
    "untrack",
]

_LISTED = keras.Sequential | Functional
_UNINITIALIZED = "uninitialized_variables"


def attached_logits(outputs: Any) -> Any | None:
    """The tensor that Keras' softmax or sigmoid was made of, where Keras left it on the result."""
    return getattr(outputs, "_keras_logits", None)


def all_layers(model: keras.Layer, include_self: bool = True) -> Iterator[keras.Layer]:
    """The model itself and every layer within it, nested ones and tracked attributes included."""
    yield from model._flatten_layers(include_self=include_self, recursive=True)


def saved_layers(layer: keras.Layer) -> list[keras.Layer]:
    """The layer itself and all within it, each once, as saving finds them: by names of attributes.

    A copy has them in the same order; those that were replaced are not among them.
    """
    found: dict[int, keras.Layer] = {}
    waiting: list[Any] = [layer]
    while waiting:
        value = waiting.pop()
        if isinstance(value, keras.Layer) and id(value) not in found:
            found[id(value)] = value
            # A subclassed model's property `layers` lists what was replaced, too.
            own = isinstance(value, keras.Model) and not isinstance(value, _LISTED)
            waiting += [part for name, part in _walk_saveable(value) if not own or name != "layers"]
        elif isinstance(value, list | tuple | set):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
    return list(found.values())


def in_branch() -> bool:
    """Whether what is made now belongs to a branch of a graph (`tf.cond`, `tf.switch_case`).

    There a `tf.custom_gradient` must not stand: under a persistent tape, or two of them,
    TensorFlow makes the branch again, and finds the tensors that the gradient has kept in none.
    """
    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    while graph is not None and not isinstance(graph, CondBranchFuncGraph):
        graph = getattr(graph, "outer_graph", None)
    return graph is not None


def global_seed_state() -> keras.Variable | None:
    """The state of the seed that `keras.random` draws from where it is given none.

    `None` as long as nothing has drawn from it.
    """
    generator = global_state.get_global_attribute("global_seed_generator")
    return None if generator is None else generator.state


class HeldState(keras.StatelessScope):
    """A `StatelessScope` of some variables alone: others are assigned as without it.

    So a generator of random numbers that is no part of a model goes on to its next draw.

    Args:
        values: Variables and their values within the scope.
        held: Further variables that nothing within it shall change.
    """

    def __init__(
        self, values: list[tuple[keras.Variable, Any]], held: list[keras.Variable]
    ) -> None:
        super().__init__(state_mapping=values)
        self._held = {id(variable) for variable in held} | set(self.state_mapping)

    def add_update(self, update: tuple[keras.Variable, Any]) -> None:
        """Keeps the new value of a variable that is held, and hands on that of another."""
        variable, value = update
        if id(variable) in self._held:
            super().add_update(update)
        elif self.original_scope is not None:
            self.original_scope.add_update(update)
        else:
            variable._direct_assign(value)

    def get_current_value(self, variable: keras.Variable) -> Any:
        """The value within the scope, or `None` where it is the variable's own."""
        value = super().get_current_value(variable)
        if value is None and id(variable) not in self._held and self.original_scope is not None:
            value = self.original_scope.get_current_value(variable)
        return value


def operation_of(tensor: Any) -> Any:
    """The layer or operation whose result a symbolic tensor of a functional model is."""
    return tensor._keras_history.operation


def calls_of(graph: keras.Model) -> list[tuple[Any, list[Any], list[Any]]]:
    """A functional model's calls in order: the layer or operation, what it takes and makes."""
    return [
        (node.operation, list(node.input_tensors), list(node.output_tensors))
        for depth in sorted(graph._nodes_by_depth, reverse=True)
        for node in graph._nodes_by_depth[depth]
    ]


def takers(graph: keras.Model, tensor: Any) -> list[tuple[Any, list[Any]]]:
    """The layers and operations of a functional model that take a tensor, and their results."""
    return [
        (operation, made)
        for operation, taken, made in calls_of(graph)
        if any(one is tensor for one in taken)
    ]


def taken_by(graph: keras.Model, layer: keras.Layer) -> list[Any]:
    """The tensors that a layer takes where a functional model first calls it.

    A nested model's own `input` belongs to its own graph.
    """
    return next(taken for operation, taken, _ in calls_of(graph) if operation is layer)


def exempt_alike(copy: keras.optimizers.Optimizer, optimizer: keras.optimizers.Optimizer) -> None:
    """Lets an optimizer spare the weights that another's weight decay spares.

    An optimizer's configuration leaves them out.
    """
    for name in ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"):
        if hasattr(optimizer, name):
            setattr(copy, name, getattr(optimizer, name))


def answers_as_its_graph(model: keras.Model) -> bool:
    """Whether calling a Sequential or functional model runs its graph, and no `call` of its own."""
    stock = keras.Sequential if isinstance(model, keras.Sequential) else Functional
    return all(
        name not in vars(model) and getattr(type(model), name) is getattr(stock, name)
        for name in ("call", "__call__")
    )


def called_with(graph: keras.Model, argument: str) -> list[tuple[Any, Any]]:
    """The layers that a functional model calls with an argument of a name, and its value."""
    return [
        (node.operation, node.arguments.kwargs[argument])
        for nodes in graph._nodes_by_depth.values()
        for node in nodes
        if argument in node.arguments.kwargs
    ]


def untrack(owner: keras.Layer, part: keras.Layer) -> None:
    """Takes a layer out of the layers of its owner, which Keras keeps when an attribute changes."""
    owner._tracker.untrack(part)


def parse_saved_model(folder: str) -> Any:
    """The program in a SavedModel's folder, read as TensorFlow's loader reads it, and not run.

    Raises:
        Exception: Whatever TensorFlow raises for a file that is damaged.
    """
    return loader_impl.parse_saved_model(folder)


def shapes_of_variables(config: dict[str, Any]) -> list[tuple[int, ...]]:
    """The shapes of the variables of a model that Keras' description would build.

    No memory is taken for them: Keras puts off their values, and then forgets them.

    Args:
        config: The content of `config.json` in a `.keras` file.

    Raises:
        Exception: Whatever Keras raises for a description that it does not understand.
    """
    waiting = list(global_state.get_global_attribute(_UNINITIALIZED, None) or [])
    try:
        with keras.StatelessScope(initialize_variables=False):
            model = keras.saving.deserialize_keras_object(config, safe_mode=True)
        return [tuple(variable.shape) for variable in model.variables]
    finally:
        global_state.set_global_attribute(_UNINITIALIZED, waiting)


def is_operation(name: str) -> bool:
    """Whether TensorFlow has an operation of this name."""
    return op_def_registry.get(name) is not None


def is_stateful(name: str) -> bool:
    """Whether an operation's results may depend on more than its inputs, or it does more.

    It may draw, remember, look at a clock, or run whatever a function that it was given does.
    Of an operation that TensorFlow does not have nothing else is known.
    """
    definition = op_def_registry.get(name)
    return definition is None or bool(definition.is_stateful)
