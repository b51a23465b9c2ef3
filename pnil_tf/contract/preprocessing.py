"""Which pixels a model takes, read from the arithmetic with which it begins."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from pnil_tf.contract.pixel_range import BYTES, SIGNED, UNIT, PixelRange
from pnil_tf.contract.pixel_steps import (
    Clip,
    End,
    Step,
    living_operations,
    results,
    step_of,
    takers,
)
from pnil_tf.contract.trace import Trace
from pnil_tf.tensors import Tensor

_LITTLE = 0.05
_MOST_SPREAD = 0.9
"""More than any pixels from -1 to 1 deviate: a deviation of 1 is no scaling at all."""
_LEAST_OF_BYTES = 20.0
"""A mean, or a deviation from it, that pixels of a smaller scale hardly have."""
_BRIGHT = 64.0
"""A mean of bytes, whatever they deviate: satellites see little contrast."""
_HARDLY = 0.02
"""Share of a range that a clip may cut off and still suit it."""


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What a model does to its pixels first.

    Args:
        pixel_range: The range that suits it; `None` if nothing tells.
        understood: Whether that was all read. It was not where pixels are scaled by learned
            numbers (`BatchNormalization`), by two branches that contradict each other, or to
            nothing usual; nor where they go into an operation that may need particular pixels
            and does not tell which (a logarithm, a threshold, another color space).
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
    those. Pixels that are clipped to one of these ranges are of that range.

    The pixels are followed through all that moves, repeats or averages them, to the first
    operation with weights. Where something else comes before it and no scale, it is not understood.
    """
    answers = tf.nest.flatten(trace.outputs)
    living = living_operations(answers)
    found: set[Preprocessing] = set()
    seen: set[tuple[int, _Scaled]] = set()
    waiting: list[tuple[Tensor, _Scaled]] = [(trace.images, _Scaled())]
    while waiting:
        tensor, pixels = waiting.pop()
        if (id(tensor), pixels) in seen:
            continue
        seen.add((id(tensor), pixels))
        operations = takers(tensor, living)
        so_far = pixels.told()
        if so_far.pixel_range is not None and len(operations) > 1:
            found.add(so_far)
            continue
        if any(tensor is answer for answer in answers):
            found.add(so_far)
        for operation in operations:
            step = step_of(trace, operation, tensor)
            after = pixels.after(step)
            if isinstance(after, _Scaled):
                waiting += [(output, after) for output in results(operation, tensor)]
            elif step is not End.STATISTIC:
                found.add(after)
    # Nothing is found where the answer takes nothing of the pixels, or their variance alone.
    return found.pop() if len(found) == 1 else _UNCLEAR


@dataclasses.dataclass(frozen=True)
class _Scaled:
    """Pixels within a model: `x * scale + offset`, for those x from `low` to `high`."""

    scale: float = 1.0
    offset: float = 0.0
    low: float = -np.inf
    high: float = np.inf

    def after(self, step: Step) -> _Scaled | Preprocessing:
        """The pixels behind an operation, or what they have told where they end."""
        so_far = self.told()
        if step is End.NETWORK or (isinstance(step, End) and so_far.pixel_range is not None):
            return so_far
        if isinstance(step, End):
            return _UNCLEAR
        if not isinstance(step, Clip):
            return dataclasses.replace(
                self,
                scale=self.scale * step.factor,
                offset=self.offset * step.factor + step.summand,
            )
        if not self.scale:
            return so_far
        low, high = sorted((bound - self.offset) / self.scale for bound in (step.low, step.high))
        clipped = dataclasses.replace(self, low=max(self.low, low), high=min(self.high, high))
        # A network's own activation may cut pixels that were scaled; it tells nothing of them.
        return clipped if clipped.told().understood or so_far.pixel_range is None else so_far

    def told(self) -> Preprocessing:
        """What scale, offset and bounds tell of the pixels."""
        # A little is added before a logarithm or a root, and says nothing of the pixels.
        if self.scale != 1.0 or abs(self.offset) > _LITTLE:
            found = _range(self.scale, self.offset)
            return Preprocessing(found) if found and self._leaves(found) else _UNCLEAR
        for usual in (UNIT, BYTES, SIGNED):
            if np.allclose((self.low, self.high), (usual.low, usual.high), atol=_LITTLE):
                return Preprocessing(usual)
        return _NONE if self._leaves(BYTES) and self._leaves(SIGNED) else _UNCLEAR

    def _leaves(self, pixel_range: PixelRange) -> bool:
        """Whether the bounds cut hardly anything off a range."""
        little = _HARDLY * (pixel_range.high - pixel_range.low)
        return self.low <= pixel_range.low + little and self.high >= pixel_range.high - little


def _range(scale: float, offset: float) -> PixelRange | None:
    if not scale:
        return None
    zero = -offset / scale  # the pixel that becomes 0
    # To [0, 1], or to twice that, or to deviations from the mean of bytes.
    usual = any(abs(255 * abs(scale) / to - 1) < 0.01 for to in (1, 2))
    if (abs(zero) < 1e-3 and usual) or (2 <= zero <= 200 and (usual or _of_bytes(zero, scale))):
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


def _of_bytes(mean: float, scale: float) -> bool:
    """Whether bytes have a mean that becomes 0, and a scale that is none of the usual.

    Pixels from 0 to 16, say, have not: those deviate less, or become -1 to 1.
    """
    if abs(abs(scale) - 1) < 0.01:  # the mean alone is subtracted
        return mean >= _LEAST_OF_BYTES
    if any(abs(abs(mean * scale) - end) < 1e-3 for end in (0.5, 1)):
        return False  # black becomes -1/2 or -1, but white, by a scale that is not usual, no 1
    return 1 / abs(scale) >= _LEAST_OF_BYTES or mean >= _BRIGHT


def _possible(mean: float, deviation: float, pixel_range: PixelRange) -> bool:
    """Whether pixels of a range can have these moments (the inequality of Bhatia and Davis)."""
    largest = (pixel_range.high - mean) * (mean - pixel_range.low)
    inside = pixel_range.low < mean < pixel_range.high
    return inside and deviation < _MOST_SPREAD and deviation**2 <= 1.001 * largest
