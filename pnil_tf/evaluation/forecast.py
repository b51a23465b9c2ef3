"""How long an evaluation will take, from a short measurement and what is planned.

Images that fall leave an attack, and no measurement can tell how many will: what is predicted is
the time in which none does.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from pnil_tf import rng
from pnil_tf.attacks.attack import Kind
from pnil_tf.attacks.registry import attack_named
from pnil_tf.attacks.settings import AttackSettings
from pnil_tf.attacks.towards import MOST_PROMISING
from pnil_tf.evaluation.jump_probe import answers as jump_answers
from pnil_tf.evaluation.planted import MOST
from pnil_tf.evaluation.target import Target
from pnil_tf.evaluation.trial import SCREENING_DRAWS, Trial, piece_of_suite
from pnil_tf.vocabulary import SUITES

_MOST_IMAGES, _MOST_PIXELS = 100, 2_000_000
"""Size of a measurement, at most: about what the attacks work on at once."""

_GRAPHS = 6.0
"""For each loss and number of draws an attack takes so many times a gradient's tracing."""

_GIVEN_UP = 1 / 6
"""Share of its steps that a search with patience spends on an image; measured on digits."""

_GRADIENT_PROBE = (3, 72)
"""Gradients and answers for each image and draw of the probe of gradients."""

_PLANT = (400, 32)
"""Answers for each planted example: those without several draws, and those for each draw."""

_PLANT_DRAWS = 16


@dataclasses.dataclass(frozen=True)
class Costs:
    """What a model's answers cost on this machine, in seconds.

    Args:
        forward: One answer to one image.
        gradient: One answer and its gradient by the image.
        tracing: Making the graph of a gradient.
    """

    forward: float
    gradient: float
    tracing: float


def measured(target: Target, x: Any) -> Costs:
    """Measures a model on up to 100 images; it takes two graphs and six batches.

    Args:
        target: The classifier.
        x: float32 `(n, height, width, channels)` in [0, 1].
    """
    count = min(_MOST_IMAGES, target.room.rows, max(1, _MOST_PIXELS // x[0].size))
    images = tf.constant(x[:count])

    def answer(images: Any) -> Any:
        with rng.noise_scope(0):
            return target.predict(images)

    def gradient(images: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(images)
            value = tf.reduce_sum(answer(images))
        slope = tape.gradient(value, images)
        return value if slope is None else slope

    _, forward = _timed(tf.function(answer, autograph=False), images)
    first, again = _timed(tf.function(gradient, autograph=False), images)
    return Costs(
        forward / len(x[:count]), max(forward, again) / len(x[:count]), max(first - again, 0.0)
    )


def forecast(
    trial: Trial, attacks: Mapping[str, tuple[AttackSettings, int]], costs: Costs
) -> dict[str, float]:
    """Predicts the seconds of every attack, and of the judgements beside them.

    Args:
        trial: The target and its images.
        attacks: For each attack its settings and the number of its images.
        costs: What the model's answers cost.
    """
    judging = trial.judge.draws * costs.forward
    seconds = {
        name: (_seconds_of_image(attack, trial.target, costs) + judging) * min(images, len(trial.x))
        + _GRAPHS * len(attack.losses) * len(attack.schedule) * costs.tracing
        for name, (attack, images) in attacks.items()
    }
    if trial.settings.checks:
        seconds |= _of_probes(trial, costs)
    suites = [piece_of_suite(name) for name in trial.settings.attacks if name in SUITES]
    return seconds | dict.fromkeys(("clean", "worst-case", *suites), judging * len(trial.x))


def _of_probes(trial: Trial, costs: Costs) -> dict[str, float]:
    settings = trial.settings
    images = min(settings.check_images, len(trial.x))
    draws = settings.eot_samples if trial.target.stochastic else 1
    gradients, answers = _GRADIENT_PROBE
    each = draws * (gradients * costs.gradient + answers * costs.forward)
    once, drawn = _PLANT
    planted = (once + drawn * (_PLANT_DRAWS if trial.target.stochastic else 1)) * costs.forward
    return {
        "check-gradients": images * each + 2 * _GRAPHS * costs.tracing,
        "check-jumps": images * jump_answers(trial.target) * costs.forward + costs.tracing,
        "check-plant": min(images, MOST) * planted + costs.tracing,
    }


def _seconds_of_image(attack: AttackSettings, target: Target, costs: Costs) -> float:
    gradient_free = attack_named(attack.name).kind is Kind.GRADIENT_FREE
    draws = attack.eot.draws * sum(steps * share for steps, share in attack.schedule)
    points = getattr(attack, "samples", 1)
    one_step = draws * points * (costs.forward if gradient_free else costs.gradient)
    if attack.check_every and target.stochastic:
        one_step += SCREENING_DRAWS * costs.forward / attack.check_every
    searches = attack.starts * (MOST_PROMISING if attack.targeted else 1)
    steps = attack.steps * (_GIVEN_UP if getattr(attack, "patience", 0) else 1)
    return steps * searches * one_step


def _timed(function: Callable[[Any], Any], images: Any) -> tuple[float, float]:
    """The seconds of a first call, which makes a graph, and of the better of two others."""
    times = []
    for _ in range(3):
        start = time.monotonic()
        function(images).numpy()
        times.append(time.monotonic() - start)
    return times[0], min(times[1:])
