"""From encoded images to the pixels the classifier was trained on."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from pnil_tf.data.resizing import resize

DECODABLE_CHANNELS = (1, 3)
"""Numbers of channels, grey and RGB, that an image file can be decoded to."""
MAX_PIXELS = 2**24
"""The most pixels of a file that is decoded, 4096 x 4096: a small file can unpack to gigabytes."""

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


def decode(encoded: Any, image_shape: tuple[int, int, int], resized: bool) -> tuple[Any, Any]:
    """Decodes PNG and JPEG files within a graph, one at a time.

    A file is bad if it is of another kind, damaged, larger than `MAX_PIXELS` or, where images are
    not resized, of another size. Sizes are read from its header, before any memory is spent.

    Args:
        encoded: string `(batch,)`, one file each.
        image_shape: `(height, width, channels)` that the classifier takes. Colours become grey,
            and grey RGB, as the channels say.
        resized: Whether images are brought to that size, as training did.

    Returns:
        uint8 `(batch, height, width, channels)`, and bool `(batch,)`, whether each file is good.
        A bad one has zeros.
    """
    height, width, channels = image_shape
    bad = tf.data.Dataset.from_tensors((tf.zeros(image_shape, tf.uint8), False))

    def decode_one(content: Any) -> tuple[Any, Any]:
        found = _size(content)
        fits = tf.reduce_prod(found) <= MAX_PIXELS
        if not resized:
            fits &= tf.reduce_all(found == [height, width])
        with tf.control_dependencies([tf.debugging.Assert(fits, [found])]):
            content = tf.identity(content)
        # By its first bytes this kernel knows a PNG from a JPEG.
        image = tf.io.decode_png(content, channels=channels)
        image.set_shape([None, None, channels])
        if resized:
            image = resize(image, (height, width))
        return tf.ensure_shape(image, image_shape), True

    def tried(content: Any) -> Any:
        # Graphs have no other way to go on after an operation that failed.
        files = tf.data.Dataset.from_tensors(content).map(decode_one).ignore_errors()
        return files.concatenate(bad).take(1)

    count = tf.size(encoded)
    images = tf.data.Dataset.from_tensor_slices(encoded).flat_map(tried)
    one_more = images.concatenate(bad).batch(tf.cast(count, tf.int64) + 1)  # else none may be left
    pixels, good = one_more.get_single_element()
    return tf.ensure_shape(pixels[:count], [None, *image_shape]), good[:count]


def _size(content: Any) -> Any:
    """The height and width that a file states, int64; an operation fails if it states none."""
    is_png = tf.strings.substr(content, 0, len(_PNG)) == _PNG
    is_jpeg = tf.strings.substr(content, 0, len(_JPEG)) == _JPEG
    with tf.control_dependencies([tf.debugging.Assert(is_png | is_jpeg, ["No PNG or JPEG."])]):
        return tf.cond(
            is_png,
            lambda: _numbers(tf.strings.substr(content, 16, 8))[::-1],  # a PNG's width is first
            lambda: tf.cast(tf.io.extract_jpeg_shape(content)[:2], tf.int64),
        )


def _numbers(text: Any) -> Any:
    """Two numbers of four bytes each, the highest first."""
    digits = tf.cast(tf.io.decode_raw(text, tf.uint8), tf.int64)
    return tf.linalg.matvec(
        tf.reshape(digits, [2, 4]), tf.constant([2**24, 2**16, 2**8, 1], tf.int64)
    )
