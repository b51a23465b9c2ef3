"""What the graph of a SavedModel may do, known before it is loaded.

A SavedModel is a program: its operations run when it is loaded and called.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pnil_tf.keras_internals import is_operation, parse_saved_model
from pnil_tf.runs.allowed_operations import ALLOWED

# Every SavedModel of TensorFlow 2 brings functions that save and restore its own variables. The
# loader reads the variables without them.
_SAVING = {"SaveV2", "MergeV2Checkpoints", "ShardedFilename", "RestoreV2"}
# TensorFlow may call any function of this attribute in the place of another one.
_STANDS_IN = "api_implements"


def refused_operations(folder: str) -> list[str]:
    """Returns the operations of a SavedModel that are not known to compute in memory alone.

    Functions count, and functions of functions. Those that save and restore the model's own
    variables are passed over where nothing calls them.

    Args:
        folder: The folder of the SavedModel.

    Raises:
        Exception: Whatever TensorFlow raises for a file that is damaged.
    """
    graphs = parse_saved_model(folder).meta_graphs  # as the loader reads it
    # Otherwise the loader goes the way of TensorFlow 1, on which the main graph is what runs.
    by_objects = len(graphs) == 1 and graphs[0].HasField("object_graph_def")
    refused: set[str] = set()
    for graph in graphs:
        functions = graph.graph_def.library.function
        names = {function.signature.name for function in functions}
        # A function cannot stand in for an operation by taking its name.
        known = ALLOWED | {name for name in names if not is_operation(name)}
        called = _called_from_outside(graph)
        called |= {name for function in functions for name in _called_within(function)}
        if not by_objects:
            called |= set(_called(graph.graph_def.node))
            refused |= _kinds(graph.graph_def.node) - known
        for function in functions:
            name, stands_in = function.signature.name, _STANDS_IN in function.attr
            passed_over = set() if name in called or stands_in else _SAVING
            refused |= _kinds(function.node_def) - known - passed_over
    return sorted(refused)


def _called_from_outside(graph: Any) -> set[str]:
    """Functions that Python calls: those of objects, and gradients."""
    library, objects = graph.graph_def.library, graph.object_graph_def
    return {
        *objects.concrete_functions,
        # The loader takes those, too, that the table above leaves out.
        *(name for node in objects.nodes for name in node.function.concrete_functions),
        *(node.bare_concrete_function.concrete_function_name for node in objects.nodes),
        *(node.captured_tensor.concrete_function for node in objects.nodes),
        *(gradient.gradient_func for gradient in library.gradient),
        *(gradient.gradient_func for gradient in library.registered_gradients),
    }


def _kinds(nodes: Iterable[Any]) -> set[str]:
    return {node.op for node in nodes}


def _called_within(function: Any) -> Iterator[str]:
    yield from _called(function.node_def)
    yield from _named(function.attr.values())
    yield from _named(attribute.default_value for attribute in function.signature.attr)


def _called(nodes: Iterable[Any]) -> Iterator[str]:
    for node in nodes:
        yield node.op
        yield from _named(node.attr.values())


def _named(values: Iterable[Any]) -> Iterator[str]:
    """Functions that attributes name. What a function is called with may name further ones."""
    for value in values:
        for function in (value.func, *value.list.func):
            yield function.name
            yield from _named(function.attr.values())
