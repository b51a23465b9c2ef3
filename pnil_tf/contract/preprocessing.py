"""Which pixels a model takes, read from the arithmetic with which it begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from pnil_tf.contract.pixel_range import BYTES, SIGNED, UNIT, PixelRange
from pnil_tf.contract.trace import SAME_VALUES, Trace
from pnil_tf.tensors import Operation, Tensor

# Operations that move pixels or mix neighbours, and leave their range as it is.
_SAME_RANGE = SAME_VALUES | {
    *("MirrorPad", "Pack", "Pad", "PadV2", "ResizeBicubic", "ResizeBilinear"),
    *("ResizeNearestNeighbor", "ReverseV2", "StridedSlice", "Transpose"),
}
_ARITHMETIC = {"Mul", "RealDiv", "Sub", "AddV2", "Add", "BiasAdd"}
_MASKING = {"Select", "SelectV2"}
_LITTLE = 0.05
_MOST_SPREAD = 0.9
"""More than any pixels from -1 to 1 deviate: a deviation of 1 is no scaling at all."""
_NO_PIXELS = {"Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike"}
_CONSTANT = {"Maximum": np.maximum, "Mul": np.multiply, "RealDiv": np.divide, "Sqrt": np.sqrt}


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What a model does to its pixels first.

    Args:
        pixel_range: The range that suits it; `None` if nothing tells.
        understood: Whether that was all read. It was not where pixels are scaled by learned
            numbers (`BatchNormalization`), by two branches that contradict each other, or to
            nothing usual.
    """

    pixel_range: PixelRange | None
    understood: bool = True


_NONE = Preprocessing(None)
_UNCLEAR = Preprocessing(None, understood=False)


def preprocessing_of(trace: Trace) -> Preprocessing:
    """Reads the range that suits a model's own preprocessing.

    `Rescaling`, `Normalization`, `preprocess_input`, a `Lambda` and plain arithmetic look alike in
    the graph: `x * scale + offset`. Scales near 1 / 255 or 2 / 255, and offsets that put zero in
    the middle of 0 to 255, belong to pixels from 0 to 255. A mean and a standard deviation that
    pixels in [0, 1] can have belong to these; those that only pixels from -1 to 1 can have, to
    those.
    """
    return _follow(trace, trace.images, 1.0, 0.0, steps=100)


def _follow(trace: Trace, tensor: Tensor, scale: float, offset: float, steps: int) -> Preprocessing:
    # A little is added before a logarithm or a root, and says nothing of the pixels.
    changed = scale != 1.0 or abs(offset) > _LITTLE
    so_far = _range(scale, offset) if changed else None
    end = _NONE if not changed else Preprocessing(so_far) if so_far else _UNCLEAR
    consumers = _consumers(tensor)
    if so_far is not None and len(consumers) > 1:
        return end
    found = set()
    for operation in consumers if steps else []:
        after = operation.outputs[0] if operation.outputs else None
        if operation.type in _SAME_RANGE or _adds_nothing(operation, tensor):
            found.add(_follow(trace, after, scale, offset, steps - 1))
        elif _masks(operation):
            found.add(end)
        elif operation.type == "Mul" and any(map(_masks, operation.outputs[0].consumers())):
            # Dropout scales up what it leaves.
            found.add(_follow(trace, after, scale, offset, steps - 1))
        elif operation.type in _ARITHMETIC and _is_random(_other(operation, tensor)):
            found.add(_follow(trace, after, scale, offset, steps - 1))  # noise around 0, or 1
        elif operation.type in _ARITHMETIC:
            step = _affine(trace, operation, tensor)
            if step is not None:
                factor, summand = step
                found.add(
                    _follow(trace, after, scale * factor, offset * factor + summand, steps - 1)
                )
            elif so_far is None and not _depends(_other(operation, tensor), trace.images):
                found.add(_UNCLEAR)
            else:
                found.add(end)
        else:
            found.add(end)
    if not found:
        return end
    return found.pop() if len(found) == 1 else _UNCLEAR


def _masks(operation: Operation) -> bool:
    """Whether it is the choice of a dropout."""
    return operation.type in _MASKING and _is_random(operation.inputs[0])


def _consumers(tensor: Tensor) -> list[Operation]:
    """The operations that the pixels go into."""
    consumers = [op for op in tensor.consumers() if op.type not in _NO_PIXELS]
    # A noise layer whose noise is off adds zero, and looks at the pixels to find its size.
    noise = [op for op in consumers if _adds_nothing(op, tensor)]
    if noise:
        return noise
    if consumers and all(op.type == "StridedSlice" for op in consumers):
        # Channels that are taken apart and put together again, in another order.
        packed = {after for op in consumers for after in op.outputs[0].consumers()}
        if len(packed) == 1 and next(iter(packed)).type in ("Pack", "ConcatV2"):
            return consumers[:1]
    return consumers


def _depends(tensor: Tensor | None, images: Tensor) -> bool:
    """Whether a tensor is computed from the images."""
    return any(operation is images.op for operation in _makers(tensor))


def _makers(tensor: Tensor | None) -> Iterator[Operation]:
    """The operations that a tensor is computed by."""
    seen: set[int] = set()
    waiting = [] if tensor is None else [tensor.op]
    while waiting:
        operation = waiting.pop()
        if id(operation) not in seen:
            seen.add(id(operation))
            yield operation
            waiting.extend(value.op for value in operation.inputs)


def _is_random(tensor: Tensor | None) -> bool:
    """Whether a tensor is drawn."""
    return any("Random" in operation.type for operation in _makers(tensor))


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
        return _constant(trace, tensor.op.inputs[0])
    return None if tensor.op.type == "ReadVariableOp" else trace.value(tensor)


def _affine(trace: Trace, operation: Operation, tensor: Tensor) -> tuple[float, float] | None:
    """The factor and the summand of one operation, averaged over channels."""
    other = _other(operation, tensor)
    value = None if other is None else _constant(trace, other)
    if value is None or not np.size(value) or not np.isfinite(value).all():
        return None
    mean = float(np.mean(value, dtype=np.float64))
    first = operation.inputs[0] is tensor
    if operation.type == "Mul":
        return mean, 0.0
    if operation.type == "RealDiv":
        if not first or not np.all(value):
            return None
        return float(np.mean(1.0 / np.asarray(value, np.float64))), 0.0
    if operation.type == "Sub":
        return (1.0, -mean) if first else (-1.0, mean)
    return 1.0, mean


def _range(scale: float, offset: float) -> PixelRange | None:
    if not scale:
        return None
    zero = -offset / scale  # the pixel that becomes 0
    # To [0, 1], or to twice that, or to deviations from the mean of bytes.
    usual = any(abs(255 * abs(scale) / to - 1) < 0.01 for to in (1, 2))
    if (abs(zero) < 1e-3 and usual) or 2 <= zero <= 200:
        return BYTES
    low, high = sorted((offset, offset + scale))
    if np.allclose((low, high), (0, 255), atol=0.5) or any(
        np.allclose((low, high), (-size, size), atol=1e-3) for size in (0.5, 1)
    ):
        return UNIT
    low, high = sorted((offset - scale, offset + scale))
    if np.allclose((low, high), (0, 1), atol=1e-3) or np.allclose((low, high), (0, 255), atol=0.5):
        return SIGNED
    # Subtracted and divided by: then the mean of the pixels and their standard deviation.
    mean, deviation = zero, 1.0 / abs(scale)
    for candidate in (UNIT, SIGNED):
        if mean and _possible(mean, deviation, candidate):
            return candidate
    return None


def _possible(mean: float, deviation: float, pixel_range: PixelRange) -> bool:
    """Whether pixels of a range can have these moments (the inequality of Bhatia and Davis)."""
    largest = (pixel_range.high - mean) * (mean - pixel_range.low)
    inside = pixel_range.low < mean < pixel_range.high
    return inside and deviation < _MOST_SPREAD and deviation**2 <= 1.001 * largest
