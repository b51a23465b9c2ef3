"""PGD with steps that start large and shrink.

A step of 2 eps/50 can hardly leave the basin in which it starts. Steps as long as the radius
cross the ball several times, and shrinking, they still settle.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf
from cleverhans.tf2.utils import clip_eta

from pnil_tf.attacks.attack import OF_GRADIENT_STEPS, Attack, Kind, Wishes, gradient_draws
from pnil_tf.attacks.ball import ORDERS
from pnil_tf.attacks.eot import Loss, Predict
from pnil_tf.attacks.one_step import ascent
from pnil_tf.attacks.schedule import draw_phases, running_mean, scheduled_gradient
from pnil_tf.attacks.search import Search, State
from pnil_tf.attacks.settings import ALL_DRAWS, AttackSettings
from pnil_tf.attacks.trials import Steps, Stretch, step_search
from pnil_tf.tensors import Images, Scalar

# While steps are long a rough direction will do; the last, short ones need a fine one.
_GROWING_DRAWS = ((0.6, 0.04), (0.3, 0.2), (0.1, 1.0))


@dataclasses.dataclass(frozen=True)
class PGDStrongSettings(AttackSettings):
    """Settings of `pgd_strong`, whose steps may shrink."""

    def check(self) -> None:
        """Refuses nothing more."""


def shrinking_steps(
    predict: Predict,
    loss: Loss,
    settings: AttackSettings,
    stretch: Stretch,
) -> State:
    """Takes the steps of a stretch.

    Args:
        predict: The classifier.
        loss: Loss per example that the attack makes large.
        settings: The attack's settings.
        stretch: What to do. The state: images from which to go on, and the running mean of the
            gradients, shaped like them; zeros at the start.

    Returns:
        The images reached and the running mean.
    """
    x, y, state, seed, first, count = stretch
    phases = draw_phases(settings.eot, settings.schedule, settings.steps)

    def body(i: Scalar, current: Images, mean: Images) -> tuple[Scalar, Images, Images]:
        gradient = scheduled_gradient(predict, loss, current, y, seed, i, phases)
        mean = running_mean(mean, gradient, settings.momentum)
        progress = tf.cast(i, tf.float32) / max(settings.steps - 1, 1)
        length = settings.step_size * settings.step_decay**progress
        moved = current + ascent(mean, length, settings.norm)
        moved = x + clip_eta(moved - x, ORDERS[settings.norm], settings.epsilon)
        return i + 1, tf.clip_by_value(moved, settings.clip_min, settings.clip_max), mean

    _, current, mean = tf.while_loop(
        lambda i, *_: i < first + count, body, (first, *state), parallel_iterations=1
    )
    return current, mean


def _defaults(wishes: Wishes) -> dict[str, Any]:
    return {
        "steps": wishes.steps or 100,
        "step_size": wishes.epsilon,
        "step_decay": 0.1,
        "restarts": 2,
        "random_start": True,
        "loss": "cross_entropy+margin",
        "schedule": ALL_DRAWS if wishes.faithful or wishes.draws == 1 else _GROWING_DRAWS,
        "check_every": 10,
    }


def _build(predict: Predict, settings: AttackSettings) -> Search:
    def steps_with(loss: Loss) -> Steps:
        def steps(stretch: Stretch) -> State:
            return shrinking_steps(predict, loss, settings, stretch)

        return steps

    batch = settings.max_evaluations_in_flight // settings.eot.chunk
    return step_search(settings, steps_with, batch, memories=1)


ATTACK = Attack(
    kind=Kind.GRADIENT,
    defaults=_defaults,
    build=_build,
    settings=PGDStrongSettings,
    eot=gradient_draws,
    options=OF_GRADIENT_STEPS,
)
