"""Random views of the training images: shifted, cropped, mirrored."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from pnil_tf import rng
from pnil_tf.contract.image_axes import channels_first
from pnil_tf.errors import UserError, argument
from pnil_tf.tensors import Pixels, Seed

_SHARE = 8
"""A view is shifted by up to this part of the image's side: 3 pixels of 28, 4 of 32."""


def augmented(x: Pixels, seed: Seed, kind: str, fill: float) -> Pixels:
    """Returns one random view of each image; which one follows from the seed alone.

    Args:
        x: Images `(batch, height, width, channels)`.
        seed: int32 seed pair.
        kind: `"none"`; `"shift"`, by up to an eighth of height and width, each pixel count equally
            likely; or `"flip_crop"`: shifted so, and half of the images mirrored left to right. It
            is the crop of an image with a border of an eighth around it.
        fill: The pixel of which that border is made.
    """
    if kind == "none":
        return x
    if kind == "flip_crop":
        mirrored = tf.random.stateless_uniform([tf.shape(x)[0]], rng.fold(seed, 0), alg="philox")
        x = tf.where(mirrored[:, None, None, None] < 0.5, x[:, :, ::-1], x)
    for axis in (1, 2):
        x = _shifted(x, rng.fold(seed, axis), axis, fill)
    return x


def check_axes(kind: str, image_shape: Sequence[int | None]) -> None:
    """Refuses images of which `augmented` would take other axes for height and width.

    Args:
        kind: As for `augmented`.
        image_shape: Of one image; `None` where a size is open.

    Raises:
        UserError: If they have another number of axes than three, or their channels first.
    """
    if kind == "none" or (len(image_shape) == 3 and not channels_first(image_shape)):
        return
    layer, change = (
        ("Permute((3, 1, 2))", "Put the channels last")
        if len(image_shape) == 3
        else ("Reshape", "Give them these three axes")
    )
    raise UserError(
        f"{argument('augment', kind)} moves images along height and width, so it takes them as "
        f"(height, width, channels). Received: images of the shape {tuple(image_shape)}. {change}, "
        f"and a keras.layers.{layer} at the classifier's front; or leave augment at 'none'."
    )


def _shifted(x: Pixels, seed: Seed, axis: int, fill: float) -> Pixels:
    size = x.shape[axis] or tf.shape(x)[axis]
    border = size // _SHARE
    padding = [[0, 0]] * 4
    padding[axis] = [border, border]
    padded = tf.pad(x, padding, constant_values=fill)
    start = tf.random.stateless_uniform(
        [tf.shape(x)[0], 1], seed, 0, 2 * border + 1, tf.int32, alg="philox"
    )
    return tf.gather(padded, start + tf.range(size), axis=axis, batch_dims=1)
