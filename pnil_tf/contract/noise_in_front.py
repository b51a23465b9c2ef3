"""Noise in front of a model, and whether it is meant for the model's pixels."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import keras

from pnil_tf.contract.pixel_range import PixelRange
from pnil_tf.errors import argument
from pnil_tf.tensors import AnyModel, Tensor


def warn_of_other_ranges(model: AnyModel, pixel_range: PixelRange) -> None:
    """Warns of noise layers in front whose range is not that of the pixels they see.

    Their noise would be far too small or too large, and nothing else would show it.

    Args:
        model: A Keras model; one that hides how its layers are connected is not looked into.
        pixel_range: The pixels that it takes.
    """
    for layer in _in_front(model):
        meant = getattr(layer, "pixel_range", None)
        if isinstance(meant, PixelRange) and meant != pixel_range:
            warnings.warn(
                f"The noise layer {layer.name!r} sees pixels in {pixel_range}, but is meant for "
                f"{meant}, so its noise starts {_off(pixel_range.width / meant.width)}. Give it "
                f"pixel_range=({pixel_range.low:g}, {pixel_range.high:g}), let add_pnil insert it, "
                f"or pass the {argument('pixel_range')} that the model takes.",
                stacklevel=2,
            )


def _in_front(model: AnyModel) -> Iterator[keras.Layer]:
    """The layers that take a model's own input."""
    if isinstance(model, keras.Sequential):
        first = [layer for layer in model.layers[:1] if layer.built]
    elif isinstance(model, keras.Model) and len(getattr(model, "inputs", None) or ()) == 1:
        first = [layer for layer in model.layers if _input_of(layer) is model.inputs[0]]
    else:
        first = []
    for layer in first:
        yield layer
        if isinstance(layer, keras.Sequential):
            yield from _in_front(layer)


def _input_of(layer: keras.Layer) -> Tensor | None:
    try:
        return layer.input
    except (AttributeError, ValueError):
        return None  # called several times, or never


def _off(factor: float) -> str:
    if factor == 1:
        return "elsewhere than it seems"
    return f"{factor:.4g} times too small" if factor > 1 else f"{1 / factor:.4g} times too large"
