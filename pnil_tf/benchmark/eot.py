"""The cost of PGD with EOT over draws, batch sizes and chunk sizes, against the floor."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from pnil_tf.attacks.eot import EOT, Predict
from pnil_tf.attacks.registry import attack_settings, build_attack
from pnil_tf.benchmark.floor import INPUT_GRADIENT, floored, forward_passes, forward_rate
from pnil_tf.benchmark.timing import alternate
from pnil_tf.evaluation.judge import Judge

_GRADIENTS = 100  # of each image, steps times draws
_DRAWS = (1, 10, 100)
_BATCHES = (20, 100, 500)
_CHUNKS = (1, 5, 20)


def eot_benchmark(
    predict: Predict, x: np.ndarray, y: np.ndarray, epsilon: float, *, rounds: int
) -> list[dict[str, Any]]:
    """Times PGD's steps as the paper takes them, no image leaving the work.

    Args:
        predict: A stochastic classifier.
        x: float32 images `(n, ...)`; batches larger than n are left out.
        y: int labels `(n,)`.
        epsilon: Radius of the ball.
        rounds: Rounds that count.

    Returns:
        One row for each number of draws, batch size and chunk: gradients of single draws
        `per_second`, `ratio` of its time to that of the first row, and the floor.
    """
    batches = [batch for batch in _BATCHES if batch <= len(x)] or [len(x)]

    def contender(draws: int, batch: int, chunk: int) -> Any:
        settings = attack_settings(
            "pgd",
            epsilon,
            steps=_GRADIENTS // draws,
            step_size=epsilon / 25,
            faithful=True,
            eot=EOT(draws, chunk),
            max_evaluations_in_flight=batch * chunk,
        )
        attack = build_attack(predict, settings, Judge(predict, 1))
        return lambda: attack.run(x, y, 0)

    grid = [
        (draws, batch, chunk)
        for draws, batch, chunk in itertools.product(_DRAWS, batches, _CHUNKS)
        if chunk <= draws
    ]
    contenders: dict[Any, Any] = {str(key): contender(*key) for key in grid}
    timings = alternate(
        contenders | forward_passes(predict, x.shape[1:]),
        len(x) * _GRADIENTS,
        rounds,
        "PGD with EOT",
    )
    rate = forward_rate(timings)
    return [
        floored(
            {"draws": key[0], "batch": key[1], "chunk": key[2], **timings[str(key)].to_json()},
            rate,
            INPUT_GRADIENT,
        )
        for key in grid
    ]
