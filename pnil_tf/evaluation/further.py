"""More effort where a search over scores took much: gradients have then not found all there is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from pnil_tf.arrays import Arrays
from pnil_tf.evaluation.store import Store
from pnil_tf.evaluation.suites import Planned
from pnil_tf.evaluation.trial import Outcome, Trial

MUCH = 0.1
"""Share of what gradients left from which on Square took much.

Of networks that their gradients describe well it takes a twentieth or a twelfth, of one that
overfitted to its own attack a quarter (docs/results.md)."""

_PIECE = "further-stages"
"""The piece of work that holds the decision, for whoever works on a share of the images."""


@dataclasses.dataclass(frozen=True)
class Look:
    """What decides on the further stages of a suite.

    Args:
        at: The attack that was looked at.
        left: Mean share of right draws before it.
        taken: By how much it lowered that, as a share of it.
        stages: The further stages of the plan.
    """

    at: str
    left: float
    taken: float
    stages: tuple[str, ...]

    @property
    def much(self) -> bool:
        """Whether the further stages run, on the images that stand."""
        return _is_much(self.taken)

    @property
    def says(self) -> str:
        """The decision to run them, one line."""
        return (
            f"{self.at} took {self.taken:.1%} of what gradients had left, more than {MUCH:.0%}: "
            f"{' and '.join(self.stages)} follow on the images that stand"
        )

    def to_json(self) -> dict[str, Any]:
        """The entry of a record; its `stages` are those that ran."""
        stages = list(self.stages) if self.much else []
        return {**dataclasses.asdict(self), "line": MUCH, "stages": stages}


def first_stages(attacks: Mapping[str, Planned]) -> dict[str, Planned]:
    """Those attacks of a plan that run in any case."""
    return {name: attack for name, attack in attacks.items() if attack.if_much_by is None}


def further_stages(attacks: Mapping[str, Planned]) -> dict[str, Planned]:
    """Those that run only where an earlier one took much."""
    return {name: attack for name, attack in attacks.items() if attack.if_much_by is not None}


def look_at(trial: Trial, attacks: Mapping[str, Planned], outcomes: Mapping[str, Outcome]) -> Look:
    """Decides, once in an evaluation, whether the further stages run.

    Args:
        trial: The target, its images, and the store that keeps the decision.
        attacks: The plan, which has such stages.
        outcomes: What the attacks before them left.
    """
    further = further_stages(attacks)
    [at] = {attack.if_much_by for attack in further.values() if attack.if_much_by is not None}
    before = attacks[at].after
    assert before is not None, at

    def piece() -> Arrays:
        left, still = (float(outcomes[name].share.mean()) for name in (before, at))
        return {"left": np.array(left), "taken": np.array((left - still) / left if left else 0.0)}

    found = trial.store.once(_PIECE, piece)
    return Look(at, float(found["left"]), float(found["taken"]), tuple(further))


def decided(store: Store) -> bool:
    """Whether an evaluation has decided to run the further stages."""
    found = store.found(_PIECE)
    return found is not None and _is_much(float(found["taken"]))


def _is_much(taken: float) -> bool:
    return taken > MUCH
