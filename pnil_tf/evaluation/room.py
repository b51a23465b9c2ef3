"""How many images an evaluation works on at once, so that what they need fits into memory.

What an attack needs is what the network computes on the way from an image to its logits, of which
a part is kept for the gradient. The random numbers of an evaluation depend on how many images
share a batch, so that follows from the network alone wherever memory allows.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from pnil_tf.attacks.attack import on_gpu
from pnil_tf.data.memory import available_bytes
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.validation import LARGEST_COUNT

MOST_AT_ONCE = 100
"""Images in a batch, where memory does not ask for fewer."""

_FLOAT = 4
_MOST_BYTES, _MOST_BYTES_OF_GPU = 2 * 2**30, 8 * 2**30
# Of the memory that is left: the images themselves and what attacks make of them want theirs.
_SHARE = 0.5
# Of all that a graph computes, what a gradient holds at once. Measured at 224 pixels: a tenth
# (ResNet50, EfficientNetB0) to a fifth (MobileNetV2).
_HELD = 1 / 3
# Numbers that an attack and its checks hold for each of an image's: points, moves, directions.
_OF_PIXELS = 32
# Without a gradient: measured, up to a ninth is held.
_HELD_FORWARD = 1 / 8
_MOST_BYTES_FORWARD = 2**30


@dataclasses.dataclass(frozen=True)
class Room:
    """What fits into memory.

    Args:
        rows: Most rows, images with their draws, in one pass with a gradient.
        points: Most rows in one pass without a gradient; the same on every machine.
    """

    rows: int = LARGEST_COUNT
    points: int = LARGEST_COUNT

    def images(self, most: int = MOST_AT_ONCE) -> int:
        """Images in a batch: `most`, or a power of two where memory asks for fewer."""
        return most if self.rows >= most else 2 ** int(math.log2(self.rows))


UNBOUNDED = Room()


def room_for(values: int, image_shape: Sequence[int]) -> Room:
    """Returns what fits into the memory of this process.

    Args:
        values: How many numbers a network computes for an image, all steps counted.
        image_shape: `(height, width, channels)`.
    """
    pixels = math.prod(image_shape)
    available = None if on_gpu() else available_bytes()
    most = _MOST_BYTES_OF_GPU if on_gpu() else _MOST_BYTES
    if available is not None:
        most = min(most, int(_SHARE * available))
    row = _FLOAT * (_HELD * values + _OF_PIXELS * pixels)
    point = _FLOAT * (_HELD_FORWARD * values + pixels)
    return Room(max(1, int(most // row)), max(1, int(_MOST_BYTES_FORWARD // point)))


def with_batch_size(settings: EvaluationSettings, room: Room) -> EvaluationSettings:
    """Settings that say how many images share a batch, if they do not do so yet."""
    if settings.batch_size is not None:
        return settings
    return dataclasses.replace(settings, batch_size=room.images())
