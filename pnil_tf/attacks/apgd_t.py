"""APGD on the targeted difference of logits ratio, one class after another.

Croce and Hein 2020 try the classes with the largest logits; ordered by their gradients
(Melamed et al. 2024), few of them do what nine did.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from pnil_tf.attacks import apgd
from pnil_tf.attacks.attack import OF_AVERAGED_GRADIENTS, Attack, Kind, Wishes
from pnil_tf.attacks.eot import Predict
from pnil_tf.attacks.graphs import BatchFunction
from pnil_tf.attacks.losses import targeted_dlr, wrong
from pnil_tf.attacks.search import Search, State
from pnil_tf.attacks.settings import AttackSettings
from pnil_tf.attacks.targets import by_gradients, by_logits
from pnil_tf.attacks.trials import Steps, Stretch, graph
from pnil_tf.errors import UserError
from pnil_tf.tensors import Images, Labels, Logits, PerImage, Seed, Tensor

ORDERS = ("logits", "gradients")


@dataclasses.dataclass(frozen=True)
class TargetedSettings(AttackSettings):
    """Settings of an attack that chooses its targets itself.

    Args:
        targets: Classes that are tried, one restart or more for each.
        order: By what they are chosen: `"logits"` (the largest first) or `"gradients"`.
    """

    targets: int = 9
    order: str = "logits"

    @property
    def starts(self) -> int:
        """How often the search begins: each restart once for every target."""
        return self.restarts * self.targets

    def check(self) -> None:
        """Refuses what makes no sense for several targets."""
        super().check()
        self._require_count("targets")
        if self.order not in ORDERS:
            raise UserError(
                f"Targets are ordered by {' or '.join(ORDERS)}. Received: order={self.order!r}."
            )
        if self.targeted:
            raise UserError(
                f"The attack {self.name!r} chooses its targets itself. Received: targeted=True. "
                "Use apgd_ce to reach classes of your choice."
            )


def targeted_search(
    predict: Predict,
    settings: TargetedSettings,
    *,
    steps: int,
    start: Callable[[Images, Seed], State],
    step: Steps,
) -> Search:
    """Returns a search that has a trial, or several, for each target.

    Args:
        predict: The classifier.
        settings: The attack's settings.
        steps: Steps of a trial.
        start: `(x, seed) -> state`.
        step: Takes the steps of a stretch whose labels are pairs of labels and targets, int32
            `(batch, 2)`.
    """

    def order(arrays: State, seed: Seed) -> Tensor:
        x, y = arrays
        given = (predict, x, y, seed, settings.eot, settings.targets)
        return (
            by_logits(*given) if settings.order == "logits" else by_gradients(*given, settings.norm)
        )

    ordered = BatchFunction(order)

    def prepare(x: Images, y: Labels, seed: Seed) -> State:
        return (ordered((x, np.asarray(y, np.int32)), seed),)

    def begin(trial: int, x: Images, known: State, seed: Seed) -> State:
        (targets,) = known
        return (*start(x, seed), targets[:, trial % settings.targets])

    def advance(stretch: Stretch) -> State:
        *inner, target = stretch.state
        pairs = tf.stack([stretch.y, target], axis=1)
        return (*step(stretch._replace(y=pairs, state=tuple(inner))), target)

    compiled = graph(advance)
    return Search(
        settings.starts,
        steps,
        settings.max_evaluations_in_flight // settings.eot.chunk,
        settings.max_evaluations_in_flight,
        begin,
        lambda trial, *arguments: compiled(*arguments),
        prepare,
    )


def _defaults(wishes: Wishes) -> dict[str, Any]:
    return {**apgd.defaults(wishes), "loss": "margin"}


def _build(predict: Predict, settings: TargetedSettings) -> Search:
    def missed(pairs: Labels, logits: Logits) -> PerImage:
        return wrong(pairs[:, 0], logits)

    def start(x: Images, seed: Seed) -> State:
        return apgd.climb_from(x, settings, seed)

    def step(stretch: Stretch) -> State:
        return apgd.climb(predict, targeted_dlr, missed, settings, stretch)

    return targeted_search(predict, settings, steps=settings.steps + 1, start=start, step=step)


ATTACK = Attack(
    kind=Kind.GRADIENT,
    defaults=_defaults,
    build=_build,
    settings=TargetedSettings,
    eot=apgd.draws,
    most_draws=apgd.MOST_DRAWS,
    options=OF_AVERAGED_GRADIENTS,
    towards=False,
    loss="targeted DLR",
)
