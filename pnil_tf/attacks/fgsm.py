"""FGSM: one gradient step (Goodfellow et al. 2015), which any stronger attack must beat."""

from __future__ import annotations

from typing import Any

from pnil_tf.attacks.attack import (
    OF_AVERAGED_GRADIENTS,
    Attack,
    Kind,
    Wishes,
    gradient_draws,
)
from pnil_tf.attacks.eot import Loss, Predict
from pnil_tf.attacks.one_step import craft, step_attack
from pnil_tf.attacks.search import Search, State
from pnil_tf.attacks.settings import AttackSettings
from pnil_tf.attacks.trials import Steps, Stretch, step_search


def _defaults(wishes: Wishes) -> dict[str, Any]:
    return {"steps": 1, "step_size": wishes.epsilon}


def _build(predict: Predict, settings: AttackSettings) -> Search:
    one_step = step_attack(
        "fgsm",
        settings.epsilon,
        norm=settings.norm,
        eot=settings.eot,
        clip_min=settings.clip_min,
        clip_max=settings.clip_max,
    )

    def steps_with(loss: Loss) -> Steps:
        def step(stretch: Stretch) -> State:
            return (craft(predict, loss, stretch.x, stretch.y, stretch.seed, one_step),)

        return step

    batch = settings.max_evaluations_in_flight // settings.eot.chunk
    return step_search(settings, steps_with, batch)


ATTACK = Attack(
    kind=Kind.SANITY,
    defaults=_defaults,
    build=_build,
    eot=gradient_draws,
    options=OF_AVERAGED_GRADIENTS,
)
