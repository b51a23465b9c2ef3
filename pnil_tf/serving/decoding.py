"""From encoded images to the pixels the classifier was trained on."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from pnil_tf.data.resizing import resize

DECODABLE_CHANNELS = (1, 3)
"""Numbers of channels, grey and RGB, that an image file can be decoded to."""


def decode(encoded: Any, image_shape: tuple[int, int, int], resized: bool) -> Any:
    """Decodes PNG and JPEG files within a graph.

    Args:
        encoded: string `(batch,)`, one file each.
        image_shape: `(height, width, channels)` that the classifier takes. Colours become grey,
            and grey RGB, as the channels say.
        resized: Whether images are brought to that size, as training did; otherwise one of
            another size raises an `InvalidArgumentError`.

    Returns:
        uint8 `(batch, height, width, channels)`.
    """
    height, width, channels = image_shape

    def decode_one(content: Any) -> Any:
        image = tf.io.decode_image(content, channels=channels, expand_animations=False)
        image.set_shape([None, None, channels])
        if resized:
            image = resize(image, (height, width))
        else:
            found = tf.shape(image)[:2]
            fits = tf.debugging.Assert(
                tf.reduce_all(found == [height, width]),
                [f"Images must have {height} x {width} pixels (height x width). Received:", found],
            )
            with tf.control_dependencies([fits]):
                image = tf.identity(image)
        image.set_shape(image_shape)
        return image

    return tf.map_fn(decode_one, encoded, fn_output_signature=tf.uint8, parallel_iterations=8)
