"""Whether antithetic draws make the same attack with fewer draws."""

from __future__ import annotations

from typing import Any

import numpy as np

from pnil_tf.attacks.eot import EOT, Predict
from pnil_tf.attacks.registry import build_attack
from pnil_tf.attacks.settings import attack_settings
from pnil_tf.evaluation.statistics import wilson
from pnil_tf.evaluation.verdict import Judge
from pnil_tf.progress import Progress

_DRAWS = (2, 4, 10, 20)
_JUDGE_DRAWS = 100
_FIRST_JUDGE_SEED = 1_000_000  # the attacks' seeds are below


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
        One row for each number of draws: the accuracy left by `independent` and by `antithetic`
        draws, by fresh draws, and the 95 % interval of each.
    """
    judge = Judge(predict, _JUDGE_DRAWS)
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
                left.append(judge(attack.run(x, y, seed), y, _FIRST_JUDGE_SEED + seed))
                done += 1
                progress.advance_to(done)
            interval = wilson(np.mean(left, axis=0))
            row |= {way: interval.value, f"{way}_low": interval.low, f"{way}_high": interval.high}
        rows.append(row)
    progress.close(f"{rounds} starts")
    return rows
