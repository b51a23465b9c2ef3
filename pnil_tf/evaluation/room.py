"""How many images an evaluation works on at once, so that what they need fits into memory.

What an attack needs is what the network computes on the way from an image to its logits, of which
a part is kept for the gradient. The random numbers of an evaluation depend on how many images
share a batch, so that follows from the network alone wherever memory allows.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import subprocess
from collections.abc import Sequence

from pnil_tf.attacks.attack import on_gpu
from pnil_tf.attacks.settings import AttackSettings
from pnil_tf.data.memory import available_bytes
from pnil_tf.errors import argument
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.validation import LARGEST_COUNT

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 100
"""Images in a batch, where memory does not ask for fewer."""

# Draws in one pass of noise that is not PNIL's.
_DRAWS_OF_OTHERS = 5
_FLOAT = 4
_MOST_BYTES, _MOST_BYTES_OF_GPU = 2 * 2**30, 8 * 2**30
# Of the memory that is left: the images themselves and what attacks make of them want theirs.
_SHARE = 0.5
_OF_MEMORY = ("query-gpu=memory.total", "format=csv,noheader,nounits")
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
        draws: Draws of an image that share a pass with a gradient, whatever fits: where the noise
            belongs to the pass as a whole, their number decides figures. `None`: as many as fit.
        together: Most rows in a pass with a gradient of each of several processes, summed up.
    """

    rows: int = LARGEST_COUNT
    points: int = LARGEST_COUNT
    draws: int | None = None
    together: int = LARGEST_COUNT

    def images(self, most: int = MOST_AT_ONCE, workers: int = 1) -> int:
        """Images in a batch: `most`, or a power of two where memory asks for fewer.

        Args:
            most: How many, at most.
            workers: Processes that share the memory.
        """
        fitting = max(1, min(self.rows, self.together // workers) // (self.draws or 1))
        return most if fitting >= most else 2 ** int(math.log2(fitting))


UNBOUNDED = Room()


def room_for(values: int, image_shape: Sequence[int], by_pass: bool = False) -> Room:
    """Returns what fits into the memory of this process.

    Args:
        values: How many numbers a network computes for an image, all steps counted.
        image_shape: `(height, width, channels)`.
        by_pass: Whether it has noise that belongs to a pass as a whole, as that of Keras' layers,
            and not to each draw.
    """
    pixels = math.prod(image_shape)
    # Processes share a machine's memory. Each is given a GPU; more processes than GPUs are not
    # reckoned with.
    available = None if on_gpu() else available_bytes()
    most = _bytes_of_a_gpu() if on_gpu() else _MOST_BYTES
    row = _FLOAT * (_HELD * values + _OF_PIXELS * pixels)
    point = _FLOAT * (_HELD_FORWARD * values + pixels)
    together = LARGEST_COUNT if available is None else max(1, int(_SHARE * available // row))
    return Room(
        max(1, min(int(most // row), together)),
        max(1, int(_MOST_BYTES_FORWARD // point)),
        _DRAWS_OF_OTHERS if by_pass else None,
        together,
    )


@functools.cache
def _bytes_of_a_gpu() -> float:
    """Bytes of a GPU for one pass: a part of the smallest one's, where its driver says."""
    asked = ["nvidia-smi", *("-" * 2 + what for what in _OF_MEMORY)]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True)
        smallest = min(int(line) for line in answer.stdout.split()) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError):
        return _MOST_BYTES_OF_GPU
    return min(_MOST_BYTES_OF_GPU, _SHARE * smallest)


def with_batch_size(
    settings: EvaluationSettings, room: Room, workers: int = 1
) -> EvaluationSettings:
    """Settings that say how many images share a batch, if they do not do so yet.

    Args:
        settings: Those of the evaluation.
        room: What fits into memory.
        workers: Processes that share it.
    """
    if settings.batch_size is not None:
        return settings
    images = room.images(workers=workers)
    if images < MOST_AT_ONCE:
        logger.info(
            "%d of these images share a batch, not %d as usual: more would not fit into memory.",
            images,
            MOST_AT_ONCE,
        )
    alone = room.images()
    if images < alone:  # other random numbers, which nobody asked for
        logger.warning(
            "The memory of %d processes holds batches of %d images, and not of %d. The random "
            "numbers follow from that: one process gives the same figures with %s.",
            workers,
            images,
            alone,
            argument("batch_size", images),
        )
    return dataclasses.replace(settings, batch_size=images)


def fitted(attack: AttackSettings, room: Room, batch: int) -> AttackSettings:
    """Settings of an attack whose passes fit into memory.

    So many draws of an image share a pass as fit, at least one. That changes no figure, as long as
    the parts of a batch stay as they are, which follow from both numbers.

    Args:
        attack: The attack's settings.
        room: What fits into memory.
        batch: Images in a batch.
    """
    usual = attack.eot.chunk
    chunk = min(usual, room.draws or max(1, room.rows // batch))
    at_once = attack.max_evaluations_in_flight * chunk // usual
    return dataclasses.replace(
        attack,
        eot=dataclasses.replace(attack.eot, chunk=chunk),
        max_evaluations_in_flight=max(at_once, chunk),
    )
