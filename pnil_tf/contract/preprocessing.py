"""Which pixels a model takes, read from the arithmetic with which it begins."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from pnil_tf.contract.pixel_range import BYTES, SIGNED, UNIT, PixelRange
from pnil_tf.contract.trace import SAME_VALUES, Trace

# Operations that move pixels or mix neighbours, and leave their range as it is.
_SAME_RANGE = SAME_VALUES | {
    *("MirrorPad", "Pad", "PadV2", "ResizeBicubic", "ResizeBilinear", "ResizeNearestNeighbor"),
    *("ReverseV2", "StridedSlice", "Transpose"),
}
_ARITHMETIC = {"Mul", "RealDiv", "Sub", "AddV2", "Add", "BiasAdd"}
_NO_PIXELS = {"Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike"}


def found_pixel_range(trace: Trace) -> PixelRange | None:
    """The range that suits a model's own preprocessing; `None` if it has none that tells.

    `Rescaling`, `Normalization`, `preprocess_input`, a `Lambda` and plain arithmetic look alike in
    the graph: `x * scale + offset`. Scales near 1 / 255, and offsets that put zero in the middle of
    0 to 255, belong to pixels from 0 to 255.
    """
    scale, offset, changed = np.float64(1.0), np.float64(0.0), False
    tensor = trace.images
    for _ in range(100):
        operation = _next(trace, tensor)
        if operation is None:
            break
        if _adds_nothing(operation, tensor):
            pass
        elif operation.type in _ARITHMETIC:
            step = _affine(trace, operation, tensor)
            if step is None:
                break
            scale, offset, changed = scale * step[0], offset * step[0] + step[1], True
        elif operation.type not in _SAME_RANGE:
            break
        tensor = operation.outputs[0]
    return _range(float(scale), float(offset)) if changed else None


def _next(trace: Trace, tensor: Any) -> Any | None:
    """The one operation that the pixels go into."""
    consumers = [op for op in tensor.consumers() if op.type not in _NO_PIXELS]
    # A noise layer whose noise is off adds zero, and looks at the pixels to find its size.
    noise = [op for op in consumers if _adds_nothing(op, tensor)]
    consumers = noise or consumers
    return consumers[0] if len(consumers) == 1 else None


def _adds_nothing(operation: Any, tensor: Any) -> bool:
    return operation.type == "AddV2" and _is_zero(_other(operation, tensor))


def _other(operation: Any, tensor: Any) -> Any | None:
    others = [value for value in operation.inputs if value is not tensor]
    return others[0] if len(others) == 1 else None


def _is_zero(tensor: Any) -> bool:
    if tensor is None:
        return False
    if tensor.op.type == "Mul":
        return any(_is_zero(factor) for factor in tensor.op.inputs)
    if tensor.op.type in ("Cast", "Identity"):
        return _is_zero(tensor.op.inputs[0])
    if tensor.op.type == "Fill":
        tensor = tensor.op.inputs[1]
    return tensor.op.type == "Const" and not np.any(tf.get_static_value(tensor))


def _affine(trace: Trace, operation: Any, tensor: Any) -> tuple[Any, Any] | None:
    """The factor and the summand of one operation, averaged over channels."""
    other = _other(operation, tensor)
    value = None if other is None else trace.value(other)
    if value is None or not np.size(value) or not np.isfinite(value).all():
        return None
    mean = np.mean(value, dtype=np.float64)
    first = operation.inputs[0] is tensor
    if operation.type == "Mul":
        return mean, 0.0
    if operation.type == "RealDiv":
        return (np.mean(1.0 / np.asarray(value, np.float64)), 0.0) if first and mean else None
    if operation.type == "Sub":
        return (1.0, -mean) if first else (-1.0, mean)
    return 1.0, mean


def _range(scale: float, offset: float) -> PixelRange | None:
    if not scale:
        return None
    zero = -offset / scale  # the pixel that becomes 0
    if (abs(zero) < 1e-3 and abs(scale) < 0.02) or 2 <= zero <= 200:
        return BYTES
    low, high = sorted((offset, offset + scale))
    if np.allclose((low, high), (-1, 1), atol=1e-3) or np.allclose((low, high), (0, 255), atol=0.5):
        return UNIT
    low, high = sorted((offset - scale, offset + scale))
    if np.allclose((low, high), (0, 1), atol=1e-3) or np.allclose((low, high), (0, 255), atol=0.5):
        return SIGNED
    return None
