"""APGD on the difference of logits ratio (Croce and Hein 2020)."""

from __future__ import annotations

import functools
from typing import Any

from pnil_tf.attacks import apgd
from pnil_tf.attacks.attack import OF_AVERAGED_GRADIENTS, Attack, Kind, Wishes
from pnil_tf.attacks.eot import Predict
from pnil_tf.attacks.losses import scale_free_margin
from pnil_tf.attacks.search import Search
from pnil_tf.attacks.settings import AttackSettings


def _defaults(wishes: Wishes) -> dict[str, Any]:
    return {**apgd.defaults(wishes), "loss": "margin"}


def _build(predict: Predict, settings: AttackSettings) -> Search:
    loss = functools.partial(scale_free_margin, targeted=settings.targeted)
    return apgd.apgd_search(predict, settings, loss)


ATTACK = Attack(
    kind=Kind.GRADIENT,
    defaults=_defaults,
    build=_build,
    eot=apgd.draws,
    most_draws=apgd.MOST_DRAWS,
    options=OF_AVERAGED_GRADIENTS,
    loss="DLR",
)
