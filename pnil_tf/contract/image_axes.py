"""Which axes of an image are which."""

from __future__ import annotations

from collections.abc import Sequence


def channels_first(image_shape: Sequence[int | None]) -> bool:
    """Whether a shape is plainly `(channels, height, width)`; sizes that are open are `None`."""
    if len(image_shape) != 3:
        return False
    first, last = image_shape[0], image_shape[2]
    return first in (1, 3, 4) and (last is None or last > 4)
