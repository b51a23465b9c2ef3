"""APGD on the cross-entropy (Croce and Hein 2020)."""

from __future__ import annotations

from pnil_tf.attacks import apgd
from pnil_tf.attacks.attack import OF_AVERAGED_GRADIENTS, Attack, Kind

ATTACK = Attack(
    kind=Kind.GRADIENT,
    defaults=apgd.defaults,
    build=apgd.apgd_search,
    eot=apgd.draws,
    most_draws=apgd.MOST_DRAWS,
    options=OF_AVERAGED_GRADIENTS,
)
