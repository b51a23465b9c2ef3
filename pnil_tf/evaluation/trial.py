"""Where attacks and judge meet: every attack is run batch by batch, judged, and kept."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from pnil_tf import rng
from pnil_tf.arrays import Arrays
from pnil_tf.attacks.registry import RunnableAttack, build_attack
from pnil_tf.attacks.search import standing_share
from pnil_tf.attacks.settings import AttackSettings
from pnil_tf.attacks.towards import Targets, Towards, most_promising, one_class
from pnil_tf.batching import batches_of
from pnil_tf.evaluation.judge import Judge, check_adversarial
from pnil_tf.evaluation.room import with_batch_size
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.evaluation.store import Store
from pnil_tf.evaluation.target import Predict, Target
from pnil_tf.progress import Stages

AIMING_DRAWS = 100
"""Draws by which an attack sees whether an image is lost, and a suite which image it keeps."""

CLEAN = "clean"
"""The piece of work that judges the unperturbed images."""

SCREENING_DRAWS = 10
"""Draws by which it looks first."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What an attack left of the first n images.

    Args:
        settings: The attack's settings.
        adversarial: float32 `(n, height, width, channels)`, to be read alone.
        votes: int32 `(n, draws)`, see `Judge.votes`.
        share: `(n,)`, the share of draws that are right.
        seconds: The time the attack took, without the judgement.
        cpu_seconds: The same on all cores together.
    """

    settings: AttackSettings
    adversarial: np.ndarray
    votes: np.ndarray
    share: np.ndarray
    seconds: float
    cpu_seconds: float


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
        self.begun = time.monotonic()
        self.stages = Stages("", verbose=0) if stages is None else stages
        self.target, self.x, self.y = target, x, y
        self.settings, self.store = with_batch_size(settings, target.room), store
        self.judge = Judge(target.predict, settings.judge_draws if target.stochastic else 1)
        # How well an attack aims must not depend on how finely its result is judged.
        self._aim = Judge(target.predict, AIMING_DRAWS if target.stochastic else 1)
        self._screen = Judge(target.predict, SCREENING_DRAWS) if target.stochastic else None
        self._clean: dict[int, np.ndarray] = {}  # votes on unperturbed images, by batch
        self._built: dict[tuple[AttackSettings, Predict], RunnableAttack | Towards] = {}

    @property
    def batch_size(self) -> int:
        """Images that are worked on at once."""
        assert self.settings.batch_size is not None
        return self.settings.batch_size

    def clean_votes(self) -> np.ndarray:
        """Judges the unperturbed images."""
        return self.votes(CLEAN, self.x)

    def votes(self, name: str, images: np.ndarray) -> np.ndarray:
        """Judges images by draws that belong to `name`.

        Args:
            name: Name of the piece of work, unique in an evaluation.
            images: float32 `(n, height, width, channels)`.

        Returns:
            int32 `(n, draws)`.
        """
        progress = self.stages.begin(name, len(images))
        pieces = []
        for batch, rows in self.batches(len(images)):
            pieces.append(self.vote_batch(name, batch, images[rows]))
            progress.advance_to(rows.stop)
        progress.close()
        return np.concatenate([piece["votes"] for piece in pieces])

    def vote_batch(self, name: str, batch: int, images: np.ndarray) -> Arrays:
        """Judges the images of one batch: their part of `votes`."""

        def piece() -> Arrays:
            return {"votes": self.judge.votes(images, self.seed(name, "judge", batch))}

        found = self.store.once(piece_name(name, batch), piece)
        if name == CLEAN:
            self._clean[batch] = found["votes"]
        return found

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
            after: What an earlier attack left of the same images. Those of which no draw is right
                any more, in two looks by fresh draws, are not attacked again. An image keeps what
                it left, and the votes on that, unless this attack leaves less by draws that count
                for nothing else.
        """
        images = min(images, len(self.x))
        progress = self.stages.begin(name, images)
        pieces = []
        adversarial = self.store.rows()
        for batch, rows in self.batches(images):

            def show(share: float, rows: slice = rows) -> None:
                progress.advance_to(rows.start + (rows.stop - rows.start) * share)

            before = None if after is None else _rows_of(after, rows)
            piece = self.attack_batch(name, settings, batch, rows, predict, before, show)
            adversarial.add(piece.pop("adversarial"))
            pieces.append(piece)
            progress.advance_to(rows.stop)
        votes = np.concatenate([piece["votes"] for piece in pieces])
        share = self.share(votes)
        progress.close(f"accuracy {share.mean():.1%} on {images} images")
        return Outcome(
            settings=settings,
            adversarial=adversarial.together(),
            votes=votes,
            share=share,
            seconds=float(sum(piece["seconds"] for piece in pieces)),
            cpu_seconds=float(sum(piece["cpu_seconds"] for piece in pieces)),
        )

    def attack_batch(
        self,
        name: str,
        settings: AttackSettings,
        batch: int,
        rows: slice,
        predict: Predict | None = None,
        before: Arrays | None = None,
        show: Callable[[float], None] = lambda share: None,
    ) -> Arrays:
        """Attacks the images of one batch and judges the result: their part of `attack`.

        It follows from the batch alone, whichever others are done beside it and wherever.

        Args:
            name: As for `attack`; so for `settings` and `predict`.
            settings: The attack.
            batch: Number of the batch.
            rows: Its images.
            predict: The classifier that the attack sees.
            before: What the earlier attack left of this batch, if there was one.
            show: Told which share of the work is done.

        Returns:
            `adversarial`, `votes`, `seconds` and `cpu_seconds`, see `Outcome`.
        """

        def piece() -> Arrays:
            x, y = self.x[rows], self.y[rows]
            if before is None:
                earlier = self._unattacked(batch, rows)
                standing = np.flatnonzero((earlier["votes"] == y[:, np.newaxis]).any(axis=1))
            else:
                earlier = before
                standing = self._standing(name, batch, earlier["adversarial"], y)
            if not len(standing):
                none = np.array(0.0)
                kept = {key: earlier[key] for key in ("adversarial", "votes")}
                return {**kept, "seconds": none, "cpu_seconds": none}
            attack = self._build(settings, predict)
            start, cpu_start = time.monotonic(), time.process_time()
            adversarial = attack.run(
                x[standing],
                y[standing],
                self.seed(name, "attack", batch),
                lambda done, total: show(done / total if total else 1.0),
            )
            spent = {
                "seconds": np.array(time.monotonic() - start),
                "cpu_seconds": np.array(time.process_time() - cpu_start),
            }
            check_adversarial(x[standing], adversarial, settings.epsilon, settings.norm, name)
            if before is not None:
                worse = self._worse(
                    name, batch, earlier["adversarial"][standing], adversarial, y[standing]
                )
                standing, adversarial = standing[worse], adversarial[worse]
            votes = (
                self.judge.votes(adversarial, self.seed(name, "judge", batch))
                if len(standing)
                else earlier["votes"][standing]
            )
            return {
                "adversarial": _put(earlier["adversarial"], standing, adversarial),
                "votes": _put(earlier["votes"], standing, votes),
                **spent,
            }

        return self.store.once(piece_name(name, batch), piece)

    def _standing(self, name: str, batch: int, images: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Numbers of the images that an attack goes on with after another one.

        As within an attack, an image leaves when two looks at it, one after the other, find every
        draw wrong. The votes that count are none of them: they are kept with the image.
        """
        seed = rng.make_seed(self.seed(name, "standing", batch))
        screen = self._screen or self._aim
        return np.flatnonzero(standing_share(screen, self._aim, images, y, seed, False, len(y)))

    def _worse(
        self, name: str, batch: int, before: np.ndarray, after: np.ndarray, y: np.ndarray
    ) -> np.ndarray:
        """Which images the model does worse on after an attack than before it, bool `(n,)`.

        The votes that count do not choose: they would make the figure too low. So an image that is
        kept keeps its votes, which are no less fair for the choice.
        """
        seed = rng.make_seed(self.seed(name, "choose", batch))
        return self._aim(after, y, seed) < self._aim(before, y, seed)

    def _unattacked(self, batch: int, rows: slice) -> Arrays:
        """What an attack begins with, if it is the first.

        An image that a deterministic classifier gets wrong without an attack is lost, and an attack
        could only mend it. Of one with noise the next draw may be right: all are attacked.
        """
        y = self.y[rows]
        return {
            "adversarial": self.x[rows],
            "votes": np.repeat(y[:, np.newaxis], self.judge.draws, axis=1)
            if self.target.stochastic
            else self._clean_votes_of(batch)[: len(y)],
        }

    def _clean_votes_of(self, batch: int) -> np.ndarray:
        """The votes on a batch of unperturbed images, which every first attack begins with."""
        if batch not in self._clean:
            _, rows = self.batches(len(self.x))[batch]
            seed = self.seed(CLEAN, "judge", batch)
            self._clean[batch] = self.judge.votes(self.x[rows], seed)
        return self._clean[batch]

    def share(self, votes: np.ndarray) -> np.ndarray:
        """The share of right draws `(n,)` of votes on the first n images."""
        return (votes == self.y[: len(votes), np.newaxis]).mean(axis=1)

    def seed(self, *parts: Any) -> int:
        """The seed, 0 to 2**62 - 1, that belongs to a name, a purpose and a batch."""
        text = "/".join(map(str, (self.settings.seed, *parts)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 2

    def batches(self, images: int) -> list[tuple[int, slice]]:
        """The batches of the first images: their numbers, and their rows."""
        return list(enumerate(batches_of(images, self.batch_size)))

    def _targets(self, predict: Predict, settings: AttackSettings) -> Targets:
        if self.settings.target_class is not None:
            return one_class(self.settings.target_class)
        return most_promising(predict, settings, self.target.num_classes)

    def _build(self, settings: AttackSettings, predict: Predict | None) -> RunnableAttack | Towards:
        """Builds an attack, which is kept: tracing it takes its time."""
        predict = self.target.predict if predict is None else predict
        if (settings, predict) not in self._built:
            # It is the target that the images are to fool, whatever the attack sees.
            attack = build_attack(predict, settings, self._aim, self._screen)
            self._built[settings, predict] = (
                Towards(attack, self._targets(predict, settings)) if settings.targeted else attack
            )
        return self._built[settings, predict]


def piece_name(name: str, batch: int) -> str:
    """What the store calls the part of a piece of work that belongs to one batch."""
    return f"{name}-{batch:05d}"


def piece_of_suite(name: str) -> str:
    """Returns what the judgement of a whole suite is called among the pieces of work."""
    return f"suite-{name}"


def _rows_of(outcome: Outcome, rows: slice) -> Arrays:
    return {"adversarial": outcome.adversarial[rows], "votes": outcome.votes[rows]}


def _put(array: np.ndarray, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A copy of an array with other values in some rows."""
    result = array.copy()
    result[rows] = values
    return result
