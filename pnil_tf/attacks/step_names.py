"""What an attack of a training may be called. Imports no TensorFlow."""

from __future__ import annotations

import re

from pnil_tf.errors import UserError
from pnil_tf.validation import require_known
from pnil_tf.vocabulary import TRAINING_ATTACKS

_PGD_STEPS, _MOST_PGD_STEPS = 7, 9999


def name_and_steps(name: str) -> tuple[str, int]:
    """Returns which of `TRAINING_ATTACKS` a name means, and its number of steps.

    Args:
        name: One of `TRAINING_ATTACKS`, or `pgd-K`; `pgd` is `pgd-7`.

    Raises:
        UserError: If it is none.
    """
    of_pgd = re.fullmatch(r"pgd(?:-(\d+))?", name)
    if not of_pgd:
        known = (*TRAINING_ATTACKS[:-1], "pgd-K with K steps")
        require_known("attack", name, known)
        return name, 1
    if not re.fullmatch(r"[1-9]\d{0,3}", of_pgd[1] or str(_PGD_STEPS)):
        raise UserError(
            f"PGD in training takes from 1 to {_MOST_PGD_STEPS} steps. Received: {name[:50]!r}."
        )
    return "pgd", int(of_pgd[1] or _PGD_STEPS)
