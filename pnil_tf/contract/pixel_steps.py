"""What single operations of a graph do to the pixels that go through them."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from pnil_tf.contract.trace import SAME_VALUES, Trace
from pnil_tf.tensors import Operation, Tensor

# Operations that move, repeat, choose or average pixels, and leave their range as it is.
_SAME_RANGE = SAME_VALUES | {
    *("AvgPool", "AvgPool3D", "BatchToSpaceND", "BroadcastTo", "Concat", "ConcatV2"),
    *("CropAndResize", "DepthToSpace", "ExtractImagePatches", "GatherNd", "GatherV2", "IdentityN"),
    *("ImageProjectiveTransformV2", "ImageProjectiveTransformV3", "Max", "MaxPool", "MaxPool3D"),
    *("MaxPoolV2", "Mean", "Min", "MirrorPad", "Pack", "Pad", "PadV2", "PreventGradient"),
    *("ResizeArea", "ResizeBicubic", "ResizeBilinear", "ResizeNearestNeighbor", "ReverseV2"),
    *("Roll", "ScaleAndTranslate", "Slice", "SpaceToBatchND", "SpaceToDepth", "Split", "SplitV"),
    *("StopGradient", "StridedSlice", "TensorListFromTensor", "Tile", "Transpose", "Unpack"),
}
_INDEXED = {"GatherNd", "GatherV2"}
_NO_DEVIATION = 1e-6
_ARITHMETIC = {"Mul", "RealDiv", "Sub", "AddV2", "Add", "BiasAdd"}
_SUMS = {"Sub", "AddV2", "Add"}
_MASKING = {"Select", "SelectV2"}
_REDUCTIONS = {"Max", "Mean", "Min", "Sum"}
_SQUARES = {"Square", "SquaredDifference"}
_NETWORK = {
    *("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Conv2D", "Conv2DBackpropInput", "Conv3D"),
    *("Conv3DBackpropInputV2", "CudnnRNNV3", "DepthwiseConv2dNative", "Einsum", "MatMul"),
    *("StatelessWhile", "While"),  # a recurrent layer
}
_PLUMBING = {"Const", "NoOp", "ReadVariableOp"}
_CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
# The axes over which the kernel of a convolution or a product of matrices is summed.
_SUMMED = {"Conv2D": (0, 1, 2), "DepthwiseConv2dNative": (0, 1), "MatMul": (0,)}
_NO_PIXELS = {"Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike"}
_CONSTANT = {"Maximum": np.maximum, "Mul": np.multiply, "RealDiv": np.divide, "Sqrt": np.sqrt}


class End(enum.Enum):
    """How preprocessing ends at an operation.

    Attributes:
        NETWORK: What follows learns from whatever it is given, or divides by the pixels' own size.
        STATISTIC: A variance is computed, which other operations take.
        UNKNOWN: It says nothing of the pixels that suit it, and it may need particular ones.
    """

    NETWORK = enum.auto()
    STATISTIC = enum.auto()
    UNKNOWN = enum.auto()


@dataclasses.dataclass(frozen=True)
class Affine:
    """`x * factor + summand`, averaged over channels."""

    factor: float = 1.0
    summand: float = 0.0


@dataclasses.dataclass(frozen=True)
class Clip:
    """Numbers are held between two bounds."""

    low: float = -np.inf
    high: float = np.inf


Step = Affine | Clip | End
_SAME = Affine()


def step_of(trace: Trace, operation: Operation, tensor: Tensor) -> Step:
    """What an operation does to pixels, up to where they go and how often.

    Args:
        trace: The graph.
        operation: One that takes the pixels.
        tensor: The pixels, one of its inputs.
    """
    kind = operation.type
    if kind == "Cast" and operation.outputs[0].dtype == tf.uint8:
        return Clip(0.0, 255.0)
    if kind in _INDEXED:
        return _SAME if operation.inputs[0] is tensor else End.UNKNOWN
    if kind in _SAME_RANGE or _adds_nothing(operation, tensor) or _masks(operation):
        return _SAME
    if kind in _SQUARES and all(op.type in _REDUCTIONS for op in operation.outputs[0].consumers()):
        return End.STATISTIC
    if kind == "Neg":
        return Affine(-1.0)
    if kind in _ARITHMETIC:
        return _arithmetic(trace, operation, tensor)
    if kind in _NETWORK or kind in _CALLS:
        return _network(trace, operation, tensor)
    return _clip(trace, operation, tensor)


def takers(tensor: Tensor, living: set[int]) -> list[Operation]:
    """The operations that pixels go into.

    Args:
        tensor: The pixels.
        living: What the model's answer is computed by, as of `living_operations`.
    """
    consumers = [op for op in tensor.consumers() if op.type not in _NO_PIXELS and id(op) in living]
    # A noise layer whose noise is off adds zero, and looks at the pixels to find its size. What
    # is computed from the pixels and comes back to them (their mean, a residual) is seen there.
    deciding = [op for op in consumers if _adds_nothing(op, tensor)] or [
        op for op in consumers if op.type in _ARITHMETIC and _comes_back(op, tensor)
    ]
    return deciding or consumers


def results(operation: Operation, tensor: Tensor) -> list[Tensor]:
    """What an operation makes of the pixels; one that hands on several tensors keeps them apart."""
    if operation.type != "IdentityN":
        return list(operation.outputs)
    pairs = zip(operation.inputs, operation.outputs, strict=True)
    return [output for value, output in pairs if value is tensor]


def living_operations(answers: Sequence[Any]) -> set[int]:
    """The ids of the operations that the numbers of a model's answers are computed by."""
    symbols = [answer for answer in answers if tf.is_symbolic_tensor(answer)]
    return {id(operation) for symbol in symbols for operation in _makers(symbol)}


def _arithmetic(trace: Trace, operation: Operation, tensor: Tensor) -> Step:
    if operation.type == "Mul" and any(map(_masks, operation.outputs[0].consumers())):
        return _SAME  # dropout scales up what it leaves
    other = _other(operation, tensor)
    if other is None:
        return End.UNKNOWN
    if _depends(other, trace.images):
        return _own_statistics(operation, other)
    if _is_random(other):
        return _SAME  # noise around 0, or 1
    return _affine(trace, operation, tensor, other) or End.UNKNOWN


def _own_statistics(operation: Operation, other: Tensor) -> Step:
    """Pixels and something computed from them: a residual, or their own mean or deviation."""
    if any(map(_is_variable, _makers(other))):
        return End.NETWORK
    if not any(maker.type in _REDUCTIONS for maker in _makers(other)):
        return End.UNKNOWN
    return _SAME if operation.type in _SUMS else End.NETWORK


def _affine(trace: Trace, operation: Operation, tensor: Tensor, other: Tensor) -> Affine | None:
    value = _constant(trace, other)
    if value is None or not np.size(value) or not np.isfinite(value).all():
        return None
    mean = float(np.mean(value, dtype=np.float64))
    first = operation.inputs[0] is tensor
    if operation.type == "Mul":
        return Affine(mean)
    if operation.type == "RealDiv":
        if not first or not np.all(value):
            return None
        # A pixel that is the same in all images has no deviation, but the least there may be.
        divisors = np.asarray(value, np.float64)
        real = divisors[np.abs(divisors) > _NO_DEVIATION]
        return Affine(float(np.mean(1.0 / (real if real.size else divisors))))
    if operation.type == "Sub":
        return Affine(1.0, -mean) if first else Affine(-1.0, mean)
    return Affine(1.0, mean)


def _network(trace: Trace, operation: Operation, tensor: Tensor) -> Step:
    """A convolution, or another operation with weights."""
    others = [value for value in operation.inputs if value is not tensor]
    if operation.type in _CALLS and not _only_network(operation):
        return End.UNKNOWN
    if any(_is_variable(maker) for value in others for maker in _makers(value)):
        return End.NETWORK
    axes = _SUMMED.get(operation.type)
    if axes is None or operation.inputs[0] is not tensor or len(others) != 1:
        return End.UNKNOWN
    kernel = _constant(trace, others[0])
    if kernel is None:
        return End.UNKNOWN
    if operation.type == "MatMul" and operation.get_attr("transpose_b"):
        kernel = np.transpose(kernel)
    averages = np.min(kernel) >= 0 and np.allclose(np.sum(kernel, axes), 1.0, atol=1e-3)
    return _SAME if averages else End.UNKNOWN


def _only_network(call: Operation) -> bool:
    """Whether a function does nothing besides, as where Keras compiles a grouped convolution."""
    name = call.get_attr("f").name
    functions = call.graph.as_graph_def().library.function
    kinds = {node.op for f in functions if f.signature.name == name for node in f.node_def}
    return bool(kinds & _NETWORK) and kinds <= _NETWORK | _SAME_RANGE | _PLUMBING


def _clip(trace: Trace, operation: Operation, tensor: Tensor) -> Step:
    if operation.type in ("Relu", "Relu6"):
        return Clip(0.0, 6.0 if operation.type == "Relu6" else np.inf)
    if operation.type not in ("ClipByValue", "Maximum", "Minimum"):
        return End.UNKNOWN
    bounds = [_constant(trace, value) for value in operation.inputs if value is not tensor]
    numbers = [float(np.mean(b, dtype=np.float64)) for b in bounds if b is not None and np.size(b)]
    if len(numbers) != len(operation.inputs) - 1:
        return End.UNKNOWN
    if operation.type == "ClipByValue":
        return Clip(*numbers)
    return Clip(low=numbers[0]) if operation.type == "Maximum" else Clip(high=numbers[0])


def _comes_back(operation: Operation, tensor: Tensor) -> bool:
    other = _other(operation, tensor)
    return other is not None and other.op is not tensor.op and _depends(other, tensor)


def _masks(operation: Operation) -> bool:
    """Whether it is the choice of a dropout."""
    return operation.type in _MASKING and _is_random(operation.inputs[0])


def _depends(tensor: Tensor, on: Tensor) -> bool:
    """Whether a tensor is computed from the numbers of another one, not from its shape alone."""
    return any(operation is on.op for operation in _makers(tensor))


def _makers(tensor: Tensor) -> Iterator[Operation]:
    """The operations that the numbers of a tensor are computed by."""
    seen: set[int] = set()
    waiting = [tensor.op]
    while waiting:
        operation = waiting.pop()
        if id(operation) not in seen:
            seen.add(id(operation))
            yield operation
            if operation.type not in _NO_PIXELS:
                waiting.extend(value.op for value in operation.inputs)


def _is_random(tensor: Tensor) -> bool:
    """Whether a tensor is drawn."""
    return any("Random" in operation.type for operation in _makers(tensor))


def _is_variable(operation: Operation) -> bool:
    return operation.type == "ReadVariableOp" or any(
        value.dtype == tf.resource for value in operation.outputs
    )


def _adds_nothing(operation: Operation, tensor: Tensor) -> bool:
    return operation.type == "AddV2" and _is_zero(_other(operation, tensor))


def _other(operation: Operation, tensor: Tensor) -> Tensor | None:
    others = [value for value in operation.inputs if value is not tensor]
    return others[0] if len(others) == 1 else None


def _is_zero(tensor: Tensor | None) -> bool:
    if tensor is None:
        return False
    if tensor.op.type == "Mul":
        return any(_is_zero(factor) for factor in tensor.op.inputs)
    if tensor.op.type in ("Cast", "Identity"):
        return _is_zero(tensor.op.inputs[0])
    if tensor.op.type == "Fill":
        tensor = tensor.op.inputs[1]
    return tensor.op.type == "Const" and not np.any(tf.get_static_value(tensor))


def _constant(trace: Trace, tensor: Tensor) -> np.ndarray | None:
    """The value of a tensor that neither images nor training change."""
    if tensor.op.type in _CONSTANT:
        parts = [_constant(trace, part) for part in tensor.op.inputs]
        return None if any(p is None for p in parts) else _CONSTANT[tensor.op.type](*parts)
    if tensor.op.type in SAME_VALUES:
        value = _constant(trace, tensor.op.inputs[0])
        shape = tensor.shape
        return value if value is None or not shape.is_fully_defined() else np.reshape(value, shape)
    return None if tensor.op.type == "ReadVariableOp" else trace.value(tensor)
