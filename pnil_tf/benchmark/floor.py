"""The floor: what the operations of a network cost where this machine does them best.

A forward pass counts 1, a gradient with respect to the input alone 2 (its forward pass
included), a full gradient 3. One such operation costs what the network's own forward pass costs
on this machine at its best batch size, noise off.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.attacks.eot import Predict
from pnil_tf.batching import batches_of
from pnil_tf.benchmark.timing import Timing

FORWARD, INPUT_GRADIENT, FULL_GRADIENT = 1.0, 2.0, 3.0

_IMAGES = 1000
_BATCHES = (20, 50, 100, 250, 500, 1000)
_PREFIX = "forward passes, "
_NAME = _PREFIX + "{} at once"


def forward_passes(
    predict: Predict,
    shape: tuple[int, ...],
    images: int = _IMAGES,
    batches: Sequence[int] = _BATCHES,
) -> dict[str, Callable[[], None]]:
    """Returns contenders for `alternate`: forward passes of so many images at each batch size.

    Args:
        predict: The network, images to outputs.
        shape: Shape of one image.
        images: How many.
        batches: The batch sizes.
    """
    pixels = np.random.default_rng(0).uniform(0.0, 1.0, (images, *shape)).astype(np.float32)

    @tf.function(reduce_retracing=True)
    def forward(images: Any) -> Any:
        with rng.noise_scope():
            return predict(images)

    def contender(batch: int) -> Callable[[], None]:
        parts = [tf.constant(pixels[rows]) for rows in batches_of(images, batch)]

        def run() -> None:
            for part in parts:
                forward(part).numpy()

        return run

    return {_NAME.format(batch): contender(batch) for batch in batches}


def forward_rate(timings: Mapping[str, Timing], images: int = _IMAGES) -> float:
    """Returns the images a second of the best of the timed `forward_passes`."""
    passes = [timing for name, timing in timings.items() if name.startswith(_PREFIX)]
    return images / min(statistics.median(timing.seconds) for timing in passes)


def floored(row: dict[str, Any], rate: float, operations: float) -> dict[str, Any]:
    """Returns a row with the floor beside its figure.

    Args:
        row: A row with `per_second`.
        rate: Forward passes of single images a second.
        operations: What one unit of `per_second` costs, in forward passes.

    Returns:
        The row with `floor_per_second`, and `times_floor`: its time over the floor's.
    """
    floor = rate / operations
    return {**row, "floor_per_second": floor, "times_floor": floor / row["per_second"]}
