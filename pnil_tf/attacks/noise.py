"""Uniform noise in the ball, which any attack must beat."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from pnil_tf.attacks.attack import Attack, Kind, Wishes
from pnil_tf.attacks.ball import uniform_in_ball
from pnil_tf.attacks.eot import Loss, Predict
from pnil_tf.attacks.search import Search, State
from pnil_tf.attacks.settings import AttackSettings
from pnil_tf.attacks.trials import Steps, Stretch, step_search


def _defaults(wishes: Wishes) -> dict[str, Any]:
    return {"steps": 1, "step_size": wishes.epsilon, "random_start": True}


def _build(predict: Predict, settings: AttackSettings) -> Search:
    del predict

    def steps_with(loss: Loss) -> Steps:
        del loss

        def step(stretch: Stretch) -> State:
            shape, radius = tf.shape(stretch.x), settings.epsilon
            moved = stretch.x + uniform_in_ball(shape, stretch.seed, radius, settings.norm)
            return (tf.clip_by_value(moved, settings.clip_min, settings.clip_max),)

        return step

    return step_search(settings, steps_with, settings.max_evaluations_in_flight)


ATTACK = Attack(
    kind=Kind.SANITY,
    defaults=_defaults,
    build=_build,
    towards=False,
    ignores=frozenset({"step_size", "loss", "eot"}),
)
