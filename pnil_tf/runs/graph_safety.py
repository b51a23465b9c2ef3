"""What the graph of a SavedModel could do to files, known before it is loaded.

A SavedModel is a program: its operations run when it is loaded and called.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pnil_tf.keras_internals import parse_saved_model

_SAVING = {"Save", "SaveSlices", "SaveV2", "MergeV2Checkpoints"}
_FORBIDDEN = {
    *("ReadFile", "WriteFile", "MatchingFiles", "WholeFileReader", "WholeFileReaderV2"),
    *("CacheDataset", "CacheDatasetV2", "SnapshotDataset", "SnapshotDatasetV2"),
    *("SaveDataset", "SaveDatasetV2", "DatasetToTFRecord", "DatasetToTFRecordV2"),
    *("CreateSummaryFileWriter", "CreateSummaryDbWriter", "WriteGraphSummary"),
    *("DebugIdentity", "DebugIdentityV2", "DebugIdentityV3"),
    *("PyFunc", "PyFuncStateless", "EagerPyFunc"),
}


def file_operations(folder: str) -> list[str]:
    """Returns the kinds of operations that read, write or look for files, or call Python.

    Every SavedModel of TensorFlow 2 holds functions that save its own variables. They are passed
    over if nothing can call them that we call.

    Args:
        folder: The folder of the SavedModel.

    Raises:
        Exception: Whatever TensorFlow raises for a file that is damaged.
    """
    found = set()
    for graph in parse_saved_model(folder).meta_graphs:  # as the loader reads it
        functions = graph.graph_def.library.function
        # Without an object graph, as TensorFlow 1 leaves it, the main graph is what is called.
        called = set(graph.object_graph_def.concrete_functions)
        called |= {name for function in functions for name in _called(function.node_def)}
        found |= _kinds(graph.graph_def.node, not graph.HasField("object_graph_def"))
        for function in functions:
            found |= _kinds(function.node_def, function.signature.name in called)
    return sorted(found)


def _kinds(nodes: Iterable[Any], called: bool) -> set[str]:
    forbidden = _FORBIDDEN | (_SAVING if called else set())
    return {node.op for node in nodes if node.op in forbidden or _prints_to_file(node)}


def _prints_to_file(node: Any) -> bool:
    return node.op == "PrintV2" and node.attr["output_stream"].s.startswith(b"file:")


def _called(nodes: Iterable[Any]) -> Iterator[str]:
    for node in nodes:
        yield node.op
        for value in node.attr.values():
            yield value.func.name
            yield from (function.name for function in value.list.func)
