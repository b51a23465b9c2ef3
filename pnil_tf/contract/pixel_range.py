"""The range of a model's pixels, and how an attack's radius is said in it. Imports no TensorFlow.

A radius is a share of the range: 8/255 means 8 of 255, whether the pixels lie between 0 and 255,
between 0 and 1 or between -1 and 1.
"""

from __future__ import annotations

import dataclasses
import fractions
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from pnil_tf.errors import UserError, argument
from pnil_tf.validation import is_number, without_quotes


@dataclasses.dataclass(frozen=True)
class PixelRange:
    """The smallest and the largest value of a pixel.

    Args:
        low: Value of a black pixel.
        high: Value of a white pixel, > low.

    Raises:
        UserError: If these are not two finite numbers, the smaller one first.

    Examples:
        >>> PixelRange(0, 255).says(8 / 255)
        '8/255 of the range (8 of 255)'
        >>> PixelRange(0, 1).says(2, "l2")
        '2 of pixels in [0, 1] (510 in [0, 255])'
    """

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not (is_number(self.low) and is_number(self.high) and self.low < self.high):
            raise UserError(
                "A pixel range is two numbers, the smaller one first. Received: "
                f"({self.low!r}, {self.high!r}). Pass for example (0, 255)."
            )
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))
        with np.errstate(over="ignore"):
            width = float(np.float32(self.high) - np.float32(self.low))
        if not (math.isfinite(width) and width > 0.0):
            raise UserError(
                "A pixel range is two numbers that float32 can tell apart. Received: "
                f"({self.low!r}, {self.high!r}). Pass for example (0, 255)."
            )

    @classmethod
    def of(cls, value: Any) -> PixelRange:
        """Returns the range that a user means by `(low, high)`, a list of two, or a `PixelRange`.

        Raises:
            UserError: If it is none.
        """
        if isinstance(value, PixelRange):
            return value
        if hasattr(value, "tolist"):  # an array
            value = value.tolist()
        if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
            return cls(*value)
        raise UserError(
            "A pixel range is two numbers, the smaller one first. Received: "
            f"{value!r}. Pass for example (0, 255)."
        )

    @property
    def width(self) -> float:
        """The distance between black and white."""
        return self.high - self.low

    @property
    def is_unit(self) -> bool:
        """Whether it is [0, 1], where `to_unit` and `from_unit` return what they are given."""
        return (self.low, self.high) == (0.0, 1.0)

    def to_unit(self, pixels: Any) -> Any:
        """Maps pixels (float array or tensor) to [0, 1]."""
        return pixels if self.is_unit else (pixels - self.low) / self.width

    def from_unit(self, unit: Any) -> Any:
        """Maps images in [0, 1] (float array or tensor) to the model's pixels."""
        return unit if self.is_unit else self.low + unit * self.width

    def says(self, epsilon: float, norm: str = "linf") -> str:
        """A radius in words, both as a share and in pixels (of 255 where the range is [0, 1]).

        In l_2, where it is a length over all pixels, it may be longer than the range is wide.
        """
        width = 255.0 if self.is_unit else self.width
        if norm == "l2":
            scale = PixelRange(0.0, 255.0) if self.is_unit else self
            return f"{share_text(epsilon)} of pixels in [0, 1] ({epsilon * width:.4g} in {scale})"
        return f"{share_text(epsilon)} of the range ({epsilon * width:.4g} of {width:.4g})"

    def __str__(self) -> str:
        return f"[{self.low:g}, {self.high:g}]"


PixelRangeLike: TypeAlias = PixelRange | Sequence[float]
"""What a user may give for a range: `(low, high)`, or a `PixelRange`."""

UNIT = PixelRange()
BYTES = PixelRange(0.0, 255.0)
SIGNED = PixelRange(-1.0, 1.0)

DARK_BYTES = 127.5
"""Floats that do not reach it may be of another scale than bytes, one that ends at 16 or 100."""


def check_epsilon(
    epsilon: float,
    norm: str,
    pixel_range: Callable[[], PixelRange] = lambda: UNIT,
    name: str = "epsilon",
) -> None:
    """Refuses a radius that is no share of the pixel range.

    Args:
        epsilon: The radius.
        norm: `"linf"` or `"l2"`. In l2 an image's radius may exceed 1: the distance of black and
            white is the square root of the number of its values.
        pixel_range: For the words; it is called only where they are needed, since finding the
            range takes a look into the model.
        name: The argument that it comes from.

    Raises:
        UserError: If it is not positive, or above 1 in l_inf.
    """
    if not is_number(epsilon) or epsilon <= 0:
        raise UserError(
            f"{argument(name)} must be a number above 0. Received: {epsilon!r}."
            f"{without_quotes(epsilon)}"
        )
    if norm == "linf" and epsilon > 1:
        stands_in = pixel_range()
        pixels = 255.0 if stands_in.is_unit else stands_in.width
        raise UserError(
            f"{argument(name)} is a share of the pixel range {stands_in}, at most 1. "
            f"Received: {epsilon:g}. For {epsilon:g} of {pixels:g} write "
            f"{argument(name, f'{epsilon:g}/{pixels:g}')}."
        )


def range_like(low: float, high: float, fractional: bool = True) -> PixelRange | None:
    """The usual range that pixels between `low` and `high` seem to have, if there is one.

    Args:
        low: Smallest pixel seen.
        high: Largest pixel seen.
        fractional: Whether some of them are no whole numbers.
    """
    if low >= 0 and high <= 1 and (fractional or high > 0):
        return UNIT
    if -1 <= low < 0 and high <= 1:
        return SIGNED
    if low >= 0 and DARK_BYTES <= high <= BYTES.high:
        return BYTES
    return None


def in_255ths(epsilon: float) -> bool:
    """Whether a radius is one that people write as n/255, like 8/255, and not as 0.2."""
    fraction = fractions.Fraction(epsilon).limit_denominator(255)
    steps = epsilon * 255
    return abs(steps - round(steps)) < 1e-6 * max(steps, 1) and fraction.denominator > 10


def share_text(length: float, beside: float | None = None) -> str:
    """A share of the range in words: `8/255`, or `0.3`.

    Args:
        length: The share.
        beside: The radius that it belongs to: its steps are said in 255ths if it is.

    Examples:
        >>> share_text(8 / 255), share_text(0.3), share_text(2 / 255 / 3, beside=2 / 255)
        ('8/255', '0.3', '0.667/255')
    """
    if in_255ths(length if beside is None else beside):
        steps = length * 255
        whole = abs(steps - round(steps)) < 1e-6 * max(steps, 1)
        return f"{round(steps)}/255" if whole else f"{steps:.3g}/255"
    return f"{length:.4g}"


def check_reach(epsilon: float, norm: str, image_shape: Sequence[int | None]) -> None:
    """Refuses a radius in l2 that reaches from black to white: it was meant in other pixels.

    Args:
        epsilon: The radius, of images in [0, 1].
        norm: `"linf"` or `"l2"`.
        image_shape: `(height, width, channels)`; nothing is known where a size is open.

    Raises:
        UserError: If so.
    """
    sizes = [size for size in image_shape if size is not None]
    farthest = math.sqrt(math.prod(sizes))
    if norm == "l2" and len(sizes) == len(image_shape) and epsilon > farthest:
        raise UserError(
            f"{argument('epsilon')} is, in l2, a distance between images whose pixels go from 0 to "
            f"1; black and white are {farthest:.4g} apart. Received: {epsilon:g}. Divide a radius "
            "in pixels from 0 to 255 by 255."
        )
