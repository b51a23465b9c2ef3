"""A classifier as TensorFlow's graph, in which its first and its last operations can be read.

The graph is the same whatever a model is built of: layers or functions, nested or subclassed, an
activation inside a layer, as a layer of its own, or before a cast.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.tensors import Answers, Pixels, Tensor

# Operations that draw random numbers, from a state of TensorFlow's own or from a seed. By those
# that are left out one seed is made of another, also for layers that rest.
_DRAWING = re.compile(
    r"Random(?!UniformFullInt)|Multinomial|TruncatedNormal|^Stateful(Standard|Uniform)"
)
_FROM_A_SEED = re.compile(r"^Stateless")
# Operations that change variables, those of optimizers included.
_WRITING = re.compile(r"^Assign|^Scatter|^Resource(?!Gather)")


@dataclasses.dataclass(frozen=True)
class Trace:
    """What a function makes of images, as symbols.

    Args:
        images: The placeholder of the images, float32 `(batch, ...)`.
        outputs: What the function returned.
        graph: The graph that holds both; it must outlive them.
    """

    images: Pixels
    outputs: Answers
    graph: tf.Graph

    def value(self, tensor: Tensor) -> np.ndarray | None:
        """The value of a tensor that no image changes, as an array; `None` if it is not known."""
        for outside, inside in self.graph.captures:
            if inside is tensor:
                return outside.numpy() if hasattr(outside, "numpy") else None
        if tensor.op.type == "ReadVariableOp":
            for outside, inside in self.graph.captures:
                if inside is tensor.op.inputs[0]:
                    return next(v.numpy() for v in self.graph.variables if v.handle is outside)
        if tensor.op.type in SAME_VALUES:
            return self.value(tensor.op.inputs[0])
        return tf.get_static_value(tensor)

    @functools.cached_property
    def values(self) -> int:
        """How many numbers the function computes for an image, all steps on the way counted.

        Sizes that are open, as in a loop, count as 1. Python code within it is not seen.
        """
        graph = self.graph.as_graph_def(add_shapes=True)
        nodes = [*graph.node, *(node for one in graph.library.function for node in one.node_def)]
        shapes = [
            [dimension.size for dimension in shape.dim]
            for node in nodes
            for shape in node.attr["_output_shapes"].list.shape
        ]
        # What begins with an open size is there for every image.
        of_images = [shape[1:] for shape in shapes if shape and shape[0] < 0]
        return sum(math.prod(abs(size) for size in shape) for shape in of_images)


def draws_numbers(graph: tf.Graph, seeded: bool = True) -> bool:
    """Whether a graph, its loops and branches included, draws random numbers.

    Args:
        graph: The graph.
        seeded: Whether those count that follow a seed alone.
    """
    drawing = filter(_DRAWING.search, _operations(graph))
    return any(seeded or not _FROM_A_SEED.search(operation) for operation in drawing)


def writes(graph: tf.Graph) -> bool:
    """Whether a graph, its loops and branches included, changes variables."""
    return any(map(_WRITING.search, _operations(graph)))


def _operations(graph: tf.Graph) -> Iterator[str]:
    definition = graph.as_graph_def()
    bodies = [definition.node, *(body.node_def for body in definition.library.function)]
    return (node.op for body in bodies for node in body)


EXAMPLES = 16
"""Images that a model is tried on, at the most."""
# Numbers that a network may compute for them all together: an eager gradient keeps every one.
_VALUES_OF_EXAMPLES = 2**27

SAME_VALUES = frozenset(
    (
        *("Cast", "CheckNumerics", "EnsureShape", "ExpandDims", "Identity"),
        *("Reshape", "Snapshot", "Squeeze"),
    )
)
"""Operations whose result holds the numbers of their first input, in the same order."""


def examples_within(values: int) -> int:
    """How many images a model is tried on, at least two, so that memory holds what it computes.

    Args:
        values: `Trace.values` of the model.
    """
    return min(EXAMPLES, max(2, _VALUES_OF_EXAMPLES // max(values, 1)))


def traced(function: Callable[[Pixels], Answers], image_shape: Sequence[int | None]) -> Trace:
    """Calls a function on a symbolic batch of images.

    The noise of pnil_tf's layers is off, so that a layer in front hides nothing.

    Args:
        function: Images -> outputs.
        image_shape: Without the batch.
    """
    seen: list[Tensor] = []

    @tf.autograph.experimental.do_not_convert
    def call(images: Pixels) -> None:
        with rng.noise_off():
            seen.extend((images, function(images)))

    spec = tf.TensorSpec([None, *image_shape], tf.float32)
    graph = tf.function(call, autograph=False).get_concrete_function(spec).graph
    images, outputs = seen
    return Trace(images, outputs, graph)


def traced_or_none(
    function: Callable[[Pixels], Answers], image_shape: Sequence[int | None]
) -> Trace | None:
    """As `traced`; `None` for code that TensorFlow cannot trace: not a fault of the model."""
    try:
        return traced(function, image_shape)
    except Exception:  # NumPy code, for example, may raise anything
        return None
