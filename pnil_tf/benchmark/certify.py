"""What the noise of a certificate's passes costs beside the network that consumes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from pnil_tf.attacks.eot import Predict
from pnil_tf.benchmark.floor import FORWARD, floored, forward_passes, forward_rate
from pnil_tf.benchmark.timing import alternate
from pnil_tf.certificate.sampling import DRAWS_OF_A_BLOCK, Sampler, gaussian
from pnil_tf.certificate.settings import CertificateSettings

_DRAWS = 2000
_AT_ONCE = CertificateSettings.batch_size


def certify_benchmark(predict: Predict, x: np.ndarray, *, rounds: int) -> list[dict[str, Any]]:
    """Times the draws of one image: as a certificate takes them, with ready noise, and the noise.

    Args:
        predict: The classifier, images in [0, 1] to logits, with a `PNILLayer` in front.
        x: float32 images `(n, height, width, channels)`; the first is taken.
        rounds: Rounds that count.

    Returns:
        A row for each: draws `per_second`, `ratio` of its time to that with ready noise, and the
        floor, the network's forward passes alone.
    """
    image, shape = x[0], x.shape[1:]
    classes = int(predict(tf.constant(x[:1])).shape[-1])
    ready = gaussian(tf.constant([DRAWS_OF_A_BLOCK, *shape]), 0, 0, 0)

    def passes(draw: Callable[..., Any]) -> Callable[[], Any]:
        sampler = Sampler(predict, shape, classes, _AT_ONCE, draw)
        return lambda: sampler.counts(image, 0, 0, _DRAWS)

    timings = alternate(
        {
            "ready noise": passes(lambda *_: ready),
            "certify": passes(gaussian),
            "the noise alone": _noise(shape),
            **forward_passes(predict, shape),
        },
        _DRAWS,
        rounds,
        "certify",
    )
    rate = forward_rate(timings)
    return [
        floored({"draws": name, **timings[name].to_json()}, rate, FORWARD)
        for name in ("ready noise", "certify", "the noise alone")
    ]


def _noise(shape: tuple[int, ...]) -> Callable[[], None]:
    """Draws as much noise as the passes take, a pass's at once."""
    blocks = -(-_AT_ONCE // DRAWS_OF_A_BLOCK)
    part = tf.constant([DRAWS_OF_A_BLOCK, *shape])

    @tf.function
    def noise(first: Any) -> Any:
        return tf.concat([gaussian(part, 0, 0, first + i) for i in range(blocks)], axis=0)

    def run() -> None:
        for first in range(0, _DRAWS // DRAWS_OF_A_BLOCK, blocks):
            noise(tf.constant(first)).numpy()

    return run
