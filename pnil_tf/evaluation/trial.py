"""Where attacks and judge meet: every attack is run batch by batch, judged, and kept."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import time
from typing import Any

import numpy as np

from pnil_tf.attacks.registry import RunnableAttack, build_attack
from pnil_tf.attacks.settings import AttackSettings
from pnil_tf.batching import batches_of
from pnil_tf.evaluation.judge import Judge, check_adversarial
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.evaluation.store import Arrays, Store
from pnil_tf.evaluation.target import Predict, Target
from pnil_tf.progress import Stages

AIMING_DRAWS = 100
"""Draws by which an attack sees whether an image is lost."""

SCREENING_DRAWS = 10
"""Draws by which it looks first."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What an attack left of the first n images.

    Args:
        settings: The attack's settings.
        adversarial: float32 `(n, height, width, channels)`.
        votes: int32 `(n, draws)`, see `Judge.votes`.
        share: `(n,)`, the share of draws that are right.
        seconds: The time the attack took, without the judgement.
    """

    settings: AttackSettings
    adversarial: np.ndarray
    votes: np.ndarray
    share: np.ndarray
    seconds: float


class Trial:
    """One target, its images, and the store of what was done to them.

    Every seed derives from the evaluation's seed, the name of the piece of work, the batch and
    the purpose. So no two purposes share draws, and a piece gives the same numbers whatever
    was done before it.

    Args:
        target: The classifier.
        x: float32 `(n, height, width, channels)` in [0, 1].
        y: int32 `(n,)`.
        settings: The evaluation's settings.
        store: Keeps finished batches.
        stages: Shows how far the work has come; nothing is shown by default.
    """

    def __init__(
        self,
        target: Target,
        x: np.ndarray,
        y: np.ndarray,
        settings: EvaluationSettings,
        store: Store,
        stages: Stages | None = None,
    ) -> None:
        self.stages = Stages("", verbose=0) if stages is None else stages
        self.target, self.x, self.y = target, x, y
        self.settings, self.store = settings, store
        self.judge = Judge(target.predict, settings.judge_draws if target.stochastic else 1)
        # How well an attack aims must not depend on how finely its result is judged.
        self._aim = Judge(target.predict, AIMING_DRAWS if target.stochastic else 1)
        self._screen = Judge(target.predict, SCREENING_DRAWS) if target.stochastic else None
        self._built: dict[AttackSettings, RunnableAttack] = {}

    def clean_votes(self) -> np.ndarray:
        """Judges the unperturbed images."""
        return self.votes("clean", self.x)

    def votes(self, name: str, images: np.ndarray) -> np.ndarray:
        """Judges images by draws that belong to `name`.

        Args:
            name: Name of the piece of work, unique in an evaluation.
            images: float32 `(n, height, width, channels)`.

        Returns:
            int32 `(n, draws)`.
        """

        def piece(batch: int, rows: slice) -> Arrays:
            return {"votes": self.judge.votes(images[rows], self.seed(name, "judge", batch))}

        progress = self.stages.begin(name, len(images))
        pieces = []
        for batch, rows in self._batches(len(images)):
            pieces.append(
                self.store.once(f"{name}-{batch:05d}", functools.partial(piece, batch, rows))
            )
            progress.advance_to(rows.stop)
        progress.close()
        return np.concatenate([piece["votes"] for piece in pieces])

    def attack(
        self,
        name: str,
        settings: AttackSettings,
        images: int,
        predict: Predict | None = None,
        after: Outcome | None = None,
    ) -> Outcome:
        """Attacks the first images and judges the result.

        Args:
            name: Name of the piece of work, unique in an evaluation.
            settings: The attack.
            images: How many; no more than there are.
            predict: The classifier that the attack sees, if it is not the target itself. The
                target is what the images are judged by in any case.
            after: What an earlier attack left of the same images. Those of which no draw was
                right any more are not attacked again: they keep what it left.
        """
        images = min(images, len(self.x))
        attack = self._build(settings, predict)
        progress = self.stages.begin(name, images)

        def piece(batch: int, rows: slice) -> Arrays:
            x, y = self.x[rows], self.y[rows]
            attacked = np.ones(len(x), bool) if after is None else after.share[rows] > 0
            standing = np.flatnonzero(attacked)
            if after is not None and not len(standing):
                kept = {"adversarial": after.adversarial[rows], "votes": after.votes[rows]}
                return {**kept, "seconds": np.array(0.0)}
            start = time.monotonic()
            adversarial = attack.run(
                x[standing],
                y[standing],
                self.seed(name, "attack", batch),
                lambda done, total: progress.advance_to(
                    rows.start + len(x) * (done / total if total else 1)
                ),
            )
            seconds = time.monotonic() - start
            check_adversarial(x[standing], adversarial, settings.epsilon, settings.norm, name)
            votes = self.judge.votes(adversarial, self.seed(name, "judge", batch))
            if after is not None:
                adversarial = _put(after.adversarial[rows], standing, adversarial)
                votes = _put(after.votes[rows], standing, votes)
            return {"adversarial": adversarial, "votes": votes, "seconds": np.array(seconds)}

        pieces = []
        for batch, rows in self._batches(images):
            pieces.append(
                self.store.once(f"{name}-{batch:05d}", functools.partial(piece, batch, rows))
            )
            progress.advance_to(rows.stop)
        votes = np.concatenate([piece["votes"] for piece in pieces])
        share = (votes == self.y[:images, np.newaxis]).mean(axis=1)
        progress.close(f"accuracy {share.mean():.1%} on {images} images")
        return Outcome(
            settings=settings,
            adversarial=np.concatenate([piece["adversarial"] for piece in pieces]),
            votes=votes,
            share=share,
            seconds=float(sum(piece["seconds"] for piece in pieces)),
        )

    def share(self, votes: np.ndarray) -> np.ndarray:
        """The share of right draws `(n,)` of votes on the first n images."""
        return (votes == self.y[: len(votes), np.newaxis]).mean(axis=1)

    def seed(self, *parts: Any) -> int:
        """The seed, 0 to 2**62 - 1, that belongs to a name, a purpose and a batch."""
        text = "/".join(map(str, (self.settings.seed, *parts)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 2

    def _build(self, settings: AttackSettings, predict: Predict | None) -> RunnableAttack:
        """Builds an attack; one on the target is kept, since tracing it takes its time."""
        if predict is not None:  # it is the target that the images are to fool
            return build_attack(predict, settings, self._aim, self._screen)
        if settings not in self._built:
            self._built[settings] = self._build(settings, self.target.predict)
        return self._built[settings]

    def _batches(self, images: int) -> list[tuple[int, slice]]:
        return list(enumerate(batches_of(images, self.settings.batch_size)))


def _put(array: np.ndarray, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A copy of an array with other values in some rows."""
    result = array.copy()
    result[rows] = values
    return result
