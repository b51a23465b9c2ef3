"""The sweep behind the settings of `pgd_strong`."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np

from pnil_tf.attacks.eot import Predict
from pnil_tf.attacks.registry import attack_settings, build_attack
from pnil_tf.evaluation.judge import Judge
from pnil_tf.evaluation.statistics import wilson
from pnil_tf.evaluation.trial import AIMING_DRAWS
from pnil_tf.progress import Progress

# First step over epsilon, and last step over the first. 0.04 is the paper's 2 eps / 50.
_STEPS = (0.04, 1 / 6, 1 / 3, 2 / 3, 1.0)
_DECAYS = (1.0, 0.1)
_LOSSES = ("cross_entropy", "margin")


def pgd_strong_sweep(
    predict: Predict, x: np.ndarray, y: np.ndarray, epsilon: float, draws: int
) -> list[dict[str, Any]]:
    """Attacks the same images with steps of several lengths, decays and losses.

    Every attack has 100 steps, one start from the same point, and the draw schedule of
    `pgd_strong`; no image leaves early, so that times compare, too.

    Args:
        predict: The classifier.
        x: float32 images `(n, ...)`.
        y: int labels `(n,)`.
        epsilon: Radius of the ball.
        draws: Draws per gradient in the last steps.

    Returns:
        One row for each attack: its settings and the `accuracy` that it left, by fresh draws,
        with a 95 % interval; and a last row with the defaults, restarts included.
    """
    judge = Judge(predict, AIMING_DRAWS)
    grid = list(itertools.product(_STEPS, _DECAYS, _LOSSES))
    progress = Progress("sweep", len(grid) + 1, "attack")

    def row(**settings: Any) -> dict[str, Any]:
        attack = build_attack(
            predict, attack_settings("pgd_strong", epsilon, draws=draws, **settings), judge
        )
        start = time.perf_counter()
        found = attack.run(x, y, 0)
        seconds = time.perf_counter() - start
        left = wilson(judge(found, y, 1))
        chosen = attack.settings
        return {
            "first step / eps": chosen.step_size / epsilon,
            "decay": chosen.step_decay,
            "loss": chosen.loss,
            "restarts": chosen.restarts,
            "accuracy": left.value,
            "low": left.low,
            "high": left.high,
            "seconds": seconds,
        }

    rows = []
    for share, decay, loss in grid:
        rows.append(
            row(
                step_size=share * epsilon,
                step_decay=decay,
                loss=loss,
                restarts=1,
                check_every=0,
            )
        )
        progress.advance_to(len(rows))
    rows.append(row())
    progress.close(f"{len(grid)} settings and the default")
    return rows
