"""How many images become batches."""

from __future__ import annotations


def batches_of(count: int, size: int) -> list[slice]:
    """The slices that cover `count` items by `size` at a time; the last may be smaller."""
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]
