"""The cost of the evaluation's attacks, against Cleverhans' the plain way."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.attacks.eot import Predict
from pnil_tf.attacks.registry import attack_settings, build_attack
from pnil_tf.attacks.settings import AttackSettings
from pnil_tf.batching import batches_of
from pnil_tf.benchmark.floor import (
    FORWARD,
    INPUT_GRADIENT,
    floored,
    forward_passes,
    forward_rate,
)
from pnil_tf.benchmark.plain import plain_pgd, plain_spsa
from pnil_tf.benchmark.timing import Timing, alternate
from pnil_tf.evaluation.judge import Judge
from pnil_tf.evaluation.trial import AIMING_DRAWS, SCREENING_DRAWS

FIRST_JUDGE_SEED = 1_000_000
"""The attacks' seeds are below."""


def pgd_benchmark(
    predict: Predict,
    x: np.ndarray,
    y: np.ndarray,
    epsilon: float,
    *,
    steps: int,
    draws: int,
    rounds: int,
) -> list[dict[str, Any]]:
    """Times PGD with EOT: the plain way, `faithful`, and the default.

    Args:
        predict: A stochastic classifier.
        x: float32 images `(n, ...)`.
        y: int labels `(n,)`.
        epsilon: Radius of the ball.
        steps: PGD steps.
        draws: Draws per gradient.
        rounds: Rounds that count; each has random starts of its own.

    Returns:
        One row for each way: images `per_second`, `ratio` of its time to that of the plain way,
        the floor of the plain way, and `accuracy` that it left, the mean over the rounds.
    """
    judge = Judge(predict, AIMING_DRAWS)
    plain = plain_pgd(predict, epsilon, steps, draws)
    ways: dict[str, Callable[[int], np.ndarray]] = {"plain loop": lambda seed: plain(x, y, seed)}
    ways |= our_pgd(predict, judge, x, y, epsilon, steps, draws)
    floors = forward_passes(predict, x.shape[1:])
    timings, left = attacked_in_turn(ways, floors, judge, x, y, epsilon, rounds, "PGD")
    rows = []
    for name in ways:
        row = floored(
            {"attack": "pgd", "way": name, **timings[name].to_json()},
            forward_rate(timings),
            steps * draws * INPUT_GRADIENT,
        )
        rows.append({**row, "accuracy": left[name]})
    return rows


def our_pgd(
    predict: Predict,
    judge: Judge,
    x: np.ndarray,
    y: np.ndarray,
    epsilon: float,
    steps: int,
    draws: int,
) -> dict[str, Callable[[int], np.ndarray]]:
    """Our two ways to attack `x` by PGD, by name: from a seed to adversarial images."""
    screen = Judge(predict, SCREENING_DRAWS)

    def way(faithful: bool) -> Callable[[int], np.ndarray]:
        settings = attack_settings("pgd", epsilon, steps=steps, draws=draws, faithful=faithful)
        attack = build_attack(predict, settings, judge, screen)
        return lambda seed: attack.run(x, y, seed)

    return {"faithful": way(True), "default": way(False)}


def attacked_in_turn(
    ways: Mapping[str, Callable[[int], np.ndarray]],
    floors: Mapping[str, Callable[[], None]],
    judge: Judge,
    x: np.ndarray,
    y: np.ndarray,
    epsilon: float,
    rounds: int,
    title: str,
) -> tuple[dict[str, Timing], dict[str, float]]:
    """Attacks images in several ways in turn, and judges what they found by fresh draws.

    Args:
        ways: By name, a seed to adversarial images; the first is the reference of the ratios.
        floors: What else is timed in the same rounds.
        judge: Its draws are no attack's.
        x: float32 images `(n, ...)`.
        y: int labels `(n,)`.
        epsilon: Radius of the ball, to which rounding is put right.
        rounds: Rounds that count; each has a seed of its own.
        title: What the progress line calls it.

    Returns:
        The timings, in images; and by way the accuracy left, the mean over the rounds. The round
        that does not count for the time counts there.
    """
    found: dict[str, list[np.ndarray]] = {name: [] for name in ways}

    def contender(name: str, way: Callable[[int], np.ndarray]) -> Callable[[], None]:
        seeds = itertools.count()
        return lambda: found[name].append(way(next(seeds)))

    contenders = {name: contender(name, way) for name, way in ways.items()}
    timings = alternate(contenders | dict(floors), len(x), rounds, title)

    def left(attacked: np.ndarray, number: int) -> np.ndarray:
        inside = np.clip(attacked, np.maximum(x - epsilon, 0), np.minimum(x + epsilon, 1))
        return judge(inside, y, FIRST_JUDGE_SEED + number)

    return timings, {
        name: float(np.mean([left(images, number) for number, images in enumerate(attacked)]))
        for name, attacked in found.items()
    }


def spsa_benchmark(
    predict: Predict,
    x: np.ndarray,
    y: np.ndarray,
    epsilon: float,
    *,
    steps: int,
    samples: int,
    rounds: int,
) -> list[dict[str, Any]]:
    """Times SPSA for each image and step, no image leaving the work.

    Args:
        predict: A classifier.
        x: float32 images `(n, ...)`.
        y: int labels `(n,)`.
        epsilon: Radius of the ball.
        steps: SPSA steps.
        samples: Evaluations per step.
        rounds: Rounds that count.

    Returns:
        One row for each way: steps of an image `per_second`, `ratio` of its time to that of the
        evaluations' forward passes alone, and the floor.
    """
    settings = attack_settings("spsa", epsilon, steps=steps, samples=samples, check_every=0)
    ours = build_attack(predict, settings, Judge(predict, 1))
    eager = plain_spsa(predict, epsilon, steps, samples)
    compiled = plain_spsa(predict, epsilon, steps, samples, compiled=True)
    passes = _forward_passes(predict, x, settings, samples)
    contenders: dict[str, Callable[[], Any]] = {
        "forward passes alone": passes,
        "ours": lambda: ours.run(x, y, 0),
        "Cleverhans, in a graph": lambda: compiled(x, y),
        "Cleverhans": lambda: eager(x, y),
    }
    floors = forward_passes(predict, x.shape[1:])
    timings = alternate(contenders | floors, steps * len(x), rounds, "SPSA")
    rate = forward_rate(timings)
    return [
        floored({"attack": "spsa", "way": name, **timings[name].to_json()}, rate, samples * FORWARD)
        for name in contenders
    ]


def _forward_passes(predict: Predict, x: np.ndarray, settings: AttackSettings, samples: int) -> Any:
    """As many evaluations as SPSA makes, as many at once."""
    at_once = max(1, settings.max_evaluations_in_flight // samples)

    @tf.function(reduce_retracing=True)
    def run(images: Any, seed: Any) -> Any:
        points = tf.repeat(images, samples, axis=0)

        def step(i: Any, total: Any) -> tuple[Any, Any]:
            with rng.noise_scope(rng.fold(seed, i)):
                return i + 1, total + tf.reduce_sum(predict(points))

        return tf.while_loop(
            lambda i, _: i < settings.steps, step, (0, 0.0), parallel_iterations=1
        )[1]

    def all_images() -> None:
        for rows in batches_of(len(x), at_once):
            run(tf.constant(x[rows]), rng.make_seed(rows.start)).numpy()

    return all_images
