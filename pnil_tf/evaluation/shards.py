"""The share of one process in the attacks of an evaluation: every so many-th batch of the images.

Each batch is attacked and judged with random numbers of its own, so it makes no difference which
process does it, or how often.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from pnil_tf.arrays import Arrays
from pnil_tf.evaluation.further import decided, first_stages
from pnil_tf.evaluation.suites import Planned
from pnil_tf.evaluation.target import Target
from pnil_tf.evaluation.trial import CLEAN, Trial, piece_name


@dataclasses.dataclass(frozen=True)
class Shard:
    """Which batches belong to a process.

    Args:
        number: Number of the process, from 0.
        of: How many there are.
    """

    number: int
    of: int

    def has(self, batch: int) -> bool:
        """Whether a batch belongs to it."""
        return batch % self.of == self.number


class Crew(Protocol):
    """Processes that do the attacks of an evaluation, or the draws of a certificate."""

    @property
    def workers(self) -> int:
        """How many they are, at least 2."""

    def work_off(
        self, target: Target, identity: Mapping[str, Any], state: Path, look: Callable[[], None]
    ) -> None:
        """Has every shard worked off, so that all pieces lie in the store.

        Args:
            target: The classifier.
            identity: What the store was opened for.
            state: The store's folder.
            look: To be called now and then meanwhile.

        Raises:
            UserError: If the processes cannot be given the model.
            RunFailedError: If a shard cannot be worked off.
        """


def work_off(trial: Trial, attacks: Mapping[str, Planned], shard: Shard) -> None:
    """Judges and attacks the batches of a shard, attack after attack, batch by batch.

    Further stages are done once the evaluation that waits for the shard has decided on them.
    """
    wanted = attacks if decided(trial.store) else first_stages(attacks)
    for batch, rows in trial.batches(len(trial.x)):
        if not shard.has(batch):
            continue
        trial.vote_batch(CLEAN, batch, trial.x[rows])
        left: dict[str, Arrays] = {}
        for name, attack in wanted.items():
            own = slice(rows.start, min(rows.stop, attack.images))
            if own.start < own.stop:
                before = left[attack.after] if attack.after else None
                left[name] = trial.attack_batch(
                    name, attack.settings, batch, own, attack.predict, before
                )


def pieces_of(trial: Trial, attacks: Mapping[str, Planned]) -> list[str]:
    """Returns the names of all pieces that the shards make together."""
    amounts = {CLEAN: len(trial.x)} | {name: attack.images for name, attack in attacks.items()}
    return [
        piece_name(name, batch)
        for name, images in amounts.items()
        for batch, _ in trial.batches(min(images, len(trial.x)))
    ]
