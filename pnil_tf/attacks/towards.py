"""An attack towards other classes, one after another, in the place of one away from the label.

An image is lost as soon as its label is left, whichever class it was sent to; so the classes that
follow see only the images that still stand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from pnil_tf import rng
from pnil_tf.attacks.eot import Predict
from pnil_tf.attacks.graphs import BatchFunction
from pnil_tf.attacks.registry import RunnableAttack
from pnil_tf.attacks.search import Array, Progress, State, standing_share
from pnil_tf.attacks.settings import AttackSettings
from pnil_tf.attacks.targets import by_gradients
from pnil_tf.batching import batches_of
from pnil_tf.tensors import Labels, Seed

MOST_PROMISING = 3
"""Classes that are tried where none is given: those whose boundaries are nearest if the logits
were linear (Melamed et al. 2024)."""

Targets = Callable[[Array, Array, Seed], Array]
"""`(x, y, seed) -> int32 (n, classes)`: for each image the classes to reach, one after another."""


def one_class(target: int) -> Targets:
    """Every image is sent to the same class; those that have it as their label stay."""
    return lambda x, y, seed: np.full((len(y), 1), target, np.int32)


def most_promising(predict: Predict, settings: AttackSettings, classes: int) -> Targets:
    """Every image is sent to the classes that its gradients reach first.

    Args:
        predict: The classifier.
        settings: The attack's settings.
        classes: How many the classifier has.
    """
    count = min(MOST_PROMISING, classes - 1)

    def order(arrays: State, seed: Seed) -> Labels:
        x, y = arrays
        return by_gradients(predict, x, y, seed, settings.eot, count, settings.norm)

    ordered = BatchFunction(order)
    at_once = max(settings.max_evaluations_in_flight // settings.eot.chunk, 1)

    def targets(x: Array, y: Array, seed: Seed) -> Array:
        labels = np.asarray(y, np.int32)
        parts = [
            ordered((x[part], labels[part]), rng.fold(seed, number))
            for number, part in enumerate(batches_of(len(x), at_once))
        ]
        return np.concatenate([np.asarray(part) for part in parts])

    return targets


@dataclasses.dataclass(frozen=True)
class Towards:
    """An attack on one classifier, as `RunnableAttack`, that goes for classes.

    Args:
        attack: What goes for one class; its settings are targeted.
        targets: Says which.
    """

    attack: RunnableAttack
    targets: Targets

    def run(
        self, x: Array, y: Array, seed: int, progress: Progress | None = None
    ) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Returns for each image the adversarial image that leaves its label in the most draws.

        Args:
            x: float32 images `(n, ...)` in the attack's range.
            y: int labels `(n,)`, the true classes.
            seed: Seed of all random numbers, >= 0.
            progress: Called with `(work done, work in all)`.
        """
        own, y = rng.make_seed(seed), np.asarray(y, np.int32)
        targets = self.targets(x, y, rng.fold(own, 0))
        kept = x.astype(np.float32)
        left = self._survival(kept, y, rng.fold(own, 1))
        turns = targets.shape[1]
        for turn in range(turns):
            standing = np.flatnonzero((left > 0) & (targets[:, turn] != y))
            if not len(standing):
                continue

            def show(done: int, total: int, turn: int = turn) -> None:
                if progress:
                    progress(turn * total + done, turns * total)

            # As for a trial of a search: each has random numbers of its own.
            own_seed = seed * (turns + 1) + turn
            found = self.attack.run(x[standing], targets[standing, turn], own_seed, show)
            survived = self._survival(found, y[standing], rng.fold(own, 2 + turn))
            better = survived < left[standing]
            kept[standing[better]] = found[better]
            left[standing[better]] = survived[better]
        return kept

    def _survival(self, x: Array, y: Array, seed: Seed) -> Array:
        judge = self.attack.judge
        at_once = self.attack.settings.max_evaluations_in_flight
        return standing_share(judge, judge, x, y, seed, False, at_once)
