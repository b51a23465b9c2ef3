"""Whether antithetic draws make the same attack with fewer draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.attacks.eot import EOT, Predict, cross_entropy, eot_gradient
from pnil_tf.attacks.registry import attack_settings, build_attack
from pnil_tf.benchmark.evaluate import FIRST_JUDGE_SEED
from pnil_tf.evaluation.judge import Judge
from pnil_tf.evaluation.statistics import wilson
from pnil_tf.evaluation.trial import AIMING_DRAWS
from pnil_tf.progress import Progress

_DRAWS = (2, 4, 10, 20)
_REFERENCE_DRAWS = 1000


def antithetic_benchmark(
    predict: Predict, x: np.ndarray, y: np.ndarray, epsilon: float, *, steps: int, rounds: int
) -> list[dict[str, Any]]:
    """Attacks the same images by PGD with independent and with antithetic draws.

    All draws at every step, no running mean, no image leaves: the draws are the only
    difference.

    Args:
        predict: A stochastic classifier.
        x: float32 images `(n, ...)`.
        y: int labels `(n,)`.
        epsilon: Radius of the ball.
        steps: PGD steps, of 2 epsilon / steps each.
        rounds: Random starts, over which the accuracy is averaged.

    Returns:
        One row for each number of draws, with what `independent` and `antithetic` draws reach:
        the `accuracy` left in percent, by fresh draws, its 95 % interval, and the `ascent` of a
        sign step from the image, as a share of that along the mean of 1,000 other draws.
    """
    ascent = _ascent(predict, x, y)
    judge = Judge(predict, AIMING_DRAWS)
    progress = Progress("antithetic draws", len(_DRAWS) * 2 * rounds, "attack")
    done = 0
    rows = []
    for draws in _DRAWS:
        row: dict[str, Any] = {"draws": draws}
        for way in ("independent", "antithetic"):
            settings = attack_settings(
                "pgd",
                epsilon,
                steps=steps,
                eot=EOT(draws, antithetic=way == "antithetic"),
                check_every=0,
            )
            attack = build_attack(predict, settings, judge)
            left = []
            for seed in range(rounds):
                left.append(judge(attack.run(x, y, seed), y, FIRST_JUDGE_SEED + seed))
                done += 1
                progress.advance_to(done)
            interval = wilson(np.mean(left, axis=0))
            row |= {
                f"{way}_accuracy": 100 * interval.value,
                f"{way}_low": 100 * interval.low,
                f"{way}_high": 100 * interval.high,
                f"{way}_ascent": ascent(EOT(draws, antithetic=way == "antithetic")),
            }
        rows.append(row)
    progress.close(f"{rounds} starts")
    return rows


def _ascent(predict: Predict, x: np.ndarray, y: np.ndarray) -> Callable[[EOT], float]:
    """Returns what tells how much of the first-order ascent a gradient's signs find."""
    images, labels = tf.constant(x), tf.constant(y)

    def gradient(eot: EOT, seed: int) -> Any:
        compiled = tf.function(
            lambda: eot_gradient(predict, cross_entropy, images, labels, rng.make_seed(seed), eot)
        )
        return tf.reshape(compiled()[1], [len(x), -1])

    reference = gradient(EOT(_REFERENCE_DRAWS), 0)
    best = tf.reduce_sum(tf.abs(reference), axis=1)

    def found(eot: EOT) -> float:
        reached = tf.reduce_sum(tf.sign(gradient(eot, 1)) * reference, axis=1)
        return float(tf.reduce_mean(tf.math.divide_no_nan(reached, best)))

    return found
