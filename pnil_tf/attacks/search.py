"""Work on the images still standing.

A search goes through its steps in stretches. After each, images that are lost already leave,
so that the cost follows the images still standing, and each restart begins with those alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from pnil_tf import rng
from pnil_tf.batching import batches_of
from pnil_tf.tensors import Images, Labels, Seed, Tensor

Array = npt.NDArray[Any]

Judge = Callable[[Array, Array, Seed], Any]
"""`(x float32 (n, ...), y int (n,), int32 seed pair) -> float32 (n,)`, the fraction of fresh
draws in which the prediction is `y`."""

Progress = Callable[[int, int], None]
"""`(work done, work in all)`, in steps of single images."""

State = tuple[Tensor, ...]
"""Arrays `(n, ...)` that a search carries along; the first is the images it has reached."""

_START, _NOISE, _JUDGE, _PREPARE = 0, 1, 2, -1


@dataclasses.dataclass(frozen=True)
class Search:
    """A search that can pause and go on with fewer images.

    Args:
        trials: How often it runs in all (restarts, losses).
        steps: Steps of one trial.
        batch: Most images in one call.
        judged_at_once: Most images in one call of the judge.
        start: `(trial, x, known, seed) -> state`.
        advance: `(trial, x, y, state, seed, first, count) -> state`: takes the steps `first`
            to `first + count - 1`.
        given_up: `state -> bool (n,)`: images that leave the trial since it will not get
            further with them. They are not lost.
        prepare: `(x, y, seed) -> known`: what all trials need to know of their images, worked
            out once.
    """

    trials: int
    steps: int
    batch: int
    judged_at_once: int
    start: Callable[[int, Images, State, Seed], State]
    advance: Callable[[int, Images, Labels, State, Seed, int, int], State]
    prepare: Callable[[Images, Labels, Seed], State] | None = None
    given_up: Callable[[tuple[Array, ...]], Array] | None = None


def attack_standing(
    search: Search,
    x: Array,
    y: Array,
    seed: Seed,
    judge: Judge,
    *,
    screen: Judge | None = None,
    targeted: bool = False,
    check_every: int = 0,
    progress: Progress | None = None,
) -> Array:
    """Returns the adversarial images of a search over all its trials, shaped like `x`.

    An image leaves when two independent judgements, one after the other, find every draw of
    it wrong. With several trials each image keeps the result that a judgement finds lowest.
    These judgements follow `seed`, so the final one must use another.

    Args:
        search: The search.
        x: float32 images `(n, ...)`.
        y: int labels `(n,)`: true classes, or with `targeted` the classes to reach.
        seed: int32 seed pair.
        judge: Tells which images are lost; asked for nothing else.
        screen: A judge of fewer draws, which within a trial looks first in the place of
            `judge`: most images stand, and few draws are enough to see that.
        targeted: Whether an image is lost once the prediction is `y`.
        check_every: Steps between judgements; 0 if no image is to leave before its time.
        progress: Told of the work done. Images that left count as done.
    """
    kept = x.copy()
    survival = np.full(len(x), np.inf, np.float32)
    standing = np.arange(len(x))
    stretch = check_every or search.steps
    total = search.trials * search.steps * len(x)
    known = _prepared(search, x, y, rng.fold(seed, _PREPARE))

    for trial in range(search.trials):
        trial_seed = rng.fold(seed, trial)
        active = standing
        of_active = tuple(array[active] for array in known)
        state = _started(search, trial, x[active], of_active, rng.fold(trial_seed, _START))
        for first in range(0, search.steps, stretch):
            if not len(active):
                break
            count = min(stretch, search.steps - first)
            parts = []
            for number, part in enumerate(batches_of(len(active), search.batch)):
                members = active[part]
                parts.append(
                    search.advance(
                        trial,
                        x[members],
                        y[members],
                        tuple(array[part] for array in state),
                        rng.fold(rng.fold(trial_seed, _NOISE), number),
                        first,
                        count,
                    )
                )
                if progress:
                    # Whoever is not active has this trial behind it.
                    idle = search.steps * (trial * len(x) + len(x) - len(active))
                    progress(idle + first * len(active) + count * part.stop, total)
            state = _joined(parts)
            ended = first + count == search.steps
            if ended and search.trials == 1:
                kept[active] = state[0]
                break
            survived = standing_share(
                judge if ended else screen or judge,
                judge,
                state[0],
                y[active],
                rng.fold(rng.fold(trial_seed, _JUDGE), first),
                targeted,
                search.judged_at_once,
            )
            leaving = survived == 0
            if search.given_up is not None and not ended:
                leaving |= search.given_up(state)
            better = (leaving | ended) & (survived < survival[active])
            kept[active[better]] = state[0][better]
            survival[active[better]] = survived[better]
            active, state = active[~leaving], tuple(array[~leaving] for array in state)
        if check_every:
            standing = standing[survival[standing] > 0]
    if progress:
        progress(total, total)
    return kept


def _prepared(search: Search, x: Array, y: Array, seed: Seed) -> tuple[Array, ...]:
    if search.prepare is None or not len(x):
        return ()
    return _joined(
        [
            search.prepare(x[part], y[part], rng.fold(seed, number))
            for number, part in enumerate(batches_of(len(x), search.batch))
        ]
    )


def _started(
    search: Search, trial: int, x: Array, known: tuple[Array, ...], seed: Seed
) -> tuple[Array, ...]:
    parts = [
        search.start(trial, x[part], tuple(array[part] for array in known), rng.fold(seed, number))
        for number, part in enumerate(batches_of(len(x), search.batch))
    ]
    return _joined(parts) if parts else (x,)


def standing_share(
    first: Judge, second: Judge, x: Array, y: Array, seed: Seed, targeted: bool, at_once: int
) -> Array:
    """Returns the fraction of draws in which each image withstands the attack.

    An image of which the first judgement saw no correct draw is judged once more: among many
    images some look lost by chance, and those that leave cannot be attacked any further.
    """

    def withstood(judge: Judge, members: Array, look: int) -> Array:
        parts = [
            judge(x[members[part]], y[members[part]], rng.fold(rng.fold(seed, look), number))
            for number, part in enumerate(batches_of(len(members), at_once))
        ]
        correct = np.concatenate(parts).astype(np.float32)
        return 1.0 - correct if targeted else correct

    result = withstood(first, np.arange(len(x)), 0)
    doubtful = np.flatnonzero(result == 0)
    if len(doubtful):
        result[doubtful] = withstood(second, doubtful, 1) / 2
    return result


def _joined(parts: list[State]) -> tuple[Array, ...]:
    columns = zip(*parts, strict=True)
    return tuple(np.concatenate([np.asarray(part) for part in column]) for column in columns)
