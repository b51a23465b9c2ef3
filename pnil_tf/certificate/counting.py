"""The draws of a certificate, counted in pieces of a few images each.

The noise of an image follows from its place among the images alone, so it makes no difference
which process counts a piece, or how often.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable

import numpy as np

from pnil_tf.arrays import Arrays
from pnil_tf.batching import batches_of
from pnil_tf.certificate.sampling import PROOF, SELECTION, Sampler
from pnil_tf.certificate.settings import CertificateSettings
from pnil_tf.evaluation.shards import Shard
from pnil_tf.evaluation.store import Store

KEPT_AT_ONCE = 5
"""Images in one piece of work, which resuming need not do again."""

Progress = Callable[[float], None]


def _silent(done: float) -> None:
    pass


@dataclasses.dataclass(frozen=True)
class Counting:
    """What the draws answer, image by image.

    Args:
        sampler: Draws the answers.
        x: float32 images `(n, height, width, channels)` in [0, 1].
        settings: How many draws, and their seed.
        store: Where finished pieces are kept.
    """

    sampler: Sampler
    x: np.ndarray
    settings: CertificateSettings
    store: Store

    def of_all(self, progress: Progress = _silent) -> Arrays:
        """Counts for every image; some draws choose its class, others say how often it comes.

        Args:
            progress: Told how many images are done, a part of one included.

        Returns:
            `selected`, int32 `(n,)`, the class chosen; `hits`, int64 `(n,)`, how many of the other
            draws answered with it; `seconds`, float64 `(n,)`.
        """
        pieces = []
        for number, rows in enumerate(self._pieces()):
            pieces.append(self._piece(number, rows, progress))
            progress(rows.stop)
        return {key: np.concatenate([piece[key] for piece in pieces]) for key in pieces[0]}

    def of_shard(self, shard: Shard) -> None:
        """Counts for every so many-th piece, and leaves what it finds in the store."""
        for number, rows in enumerate(self._pieces()):
            if shard.has(number):
                self._piece(number, rows, _silent)

    def images_done(self) -> int:
        """How many images there are pieces of in the store, whoever counted them."""
        return sum(
            rows.stop - rows.start
            for number, rows in enumerate(self._pieces())
            if self.store.holds(_name(number))
        )

    def _pieces(self) -> list[slice]:
        return batches_of(len(self.x), KEPT_AT_ONCE)

    def _piece(self, number: int, rows: slice, progress: Progress) -> Arrays:
        return self.store.once(_name(number), functools.partial(self._count, rows, progress))

    def _count(self, rows: slice, progress: Progress) -> Arrays:
        found = [self._count_one(i, progress) for i in range(rows.start, rows.stop)]
        selected, hits, seconds = zip(*found, strict=True)
        return {
            "selected": np.array(selected, np.int32),
            "hits": np.array(hits, np.int64),
            "seconds": np.array(seconds),
        }

    def _count_one(self, i: int, progress: Progress) -> tuple[int, int, float]:
        start, settings = time.monotonic(), self.settings

        def show(done: int) -> None:
            progress(i + done / settings.draws)

        assert settings.seed is not None
        choosing, proving = (2 * i + part for part in (SELECTION, PROOF))
        votes = self.sampler.counts(self.x[i], settings.seed, choosing, settings.selection_draws)
        best = int(votes[:-1].argmax())  # answers that are not finite are no class
        counts = self.sampler.counts(self.x[i], settings.seed, proving, settings.draws, show)
        return best, int(counts[best]), time.monotonic() - start


def _name(number: int) -> str:
    return f"draws-{number:05d}"
