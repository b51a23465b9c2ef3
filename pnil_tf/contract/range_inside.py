"""The range of the pixels somewhere inside a model, behind its preprocessing."""

from __future__ import annotations

import keras
import numpy as np

from pnil_tf import rng
from pnil_tf.contract.pixel_range import PixelRange

_OPEN_SIZE = 32  # for an axis whose length the model leaves open
_LEVELS = 6


def range_inside(start: keras.Model, pixel_range: PixelRange) -> PixelRange | None:
    """The range of a model's first stage's output, if that still consists of the pixels.

    It does if even images come out even, every channel for itself and in proportion: so do
    `Rescaling`, `Normalization`, resizing, cropping and flipping, and hardly anything else. Where
    the channels' ranges differ it is the smallest one that holds them all.

    Args:
        start: The first stage, from images `(batch, ..., channels)` to the place in question.
        pixel_range: Of the images.

    Returns:
        The range, or `None` if the output is something else than pixels.
    """
    shape, dtype = start.inputs[0].shape[1:], start.inputs[0].dtype
    if start.outputs[0].shape[-1] != shape[-1] or not shape or shape[-1] is None:
        return None
    # Black, white, and other levels that differ between the channels.
    levels = np.random.default_rng(0).random((_LEVELS, shape[-1]))
    levels[:2] = [[0.0], [1.0]]
    size = [_OPEN_SIZE if length is None else length for length in shape[:-1]]
    even = np.broadcast_to(
        np.expand_dims(levels, tuple(range(1, len(shape)))), (_LEVELS, *size, shape[-1])
    )
    with rng.noise_off():
        out = start(pixel_range.from_unit(even).astype(dtype), training=False)
    return _range(levels, np.asarray(out, np.float64).reshape(_LEVELS, -1, shape[-1]))


def _range(levels: np.ndarray, out: np.ndarray) -> PixelRange | None:
    black, white = out[0, 0], out[1, 0]
    expected = (black + levels * (white - black))[:, None]
    # Bytes may have been rounded on the way in.
    tolerance = 0.005 * np.abs(white - black).max()
    if not tolerance > 0 or not np.abs(out - expected).max() <= tolerance:
        return None
    return PixelRange(float(min(black.min(), white.min())), float(max(black.max(), white.max())))
