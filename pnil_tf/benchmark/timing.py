"""Fair timing on a machine that others use too."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from pnil_tf.progress import Progress


@dataclasses.dataclass(frozen=True)
class Timing:
    """What one contender took.

    Args:
        seconds: Time of each round.
        work: Units of work done in a round, such as images.
        ratio_to: Time of each round over that of the reference in the same round.
    """

    seconds: list[float]
    work: int
    ratio_to: list[float]

    def to_json(self) -> dict[str, Any]:
        """Medians, with the smallest and largest as spread."""
        rates = sorted(self.work / seconds for seconds in self.seconds)
        return {
            "per_second": statistics.median(rates),
            "per_second_range": [rates[0], rates[-1]],
            "ratio": statistics.median(self.ratio_to),
            "ratio_range": [min(self.ratio_to), max(self.ratio_to)],
            "rounds": len(self.seconds),
        }


def alternate(
    contenders: Mapping[str, Callable[[], Any]], work: int, rounds: int, title: str
) -> dict[str, Timing]:
    """Times contenders in turn, A B C A B C ..., after one round that does not count.

    A machine that is busy for a while slows all of a round down, and leaves their ratios.

    Args:
        contenders: What to run, by name; the first is the reference of the ratios.
        work: Units of work each does per round.
        rounds: Rounds that count, at least 1.
        title: What the progress line calls it.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    progress = Progress(title, (rounds + 1) * len(contenders), "run")
    for turn in range(rounds + 1):
        for position, (name, run) in enumerate(contenders.items()):
            start = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
            progress.advance_to(turn * len(contenders) + position + 1)
    progress.close(f"{rounds} rounds")
    reference = next(iter(seconds.values()))
    return {
        name: Timing(times, work, [t / r for t, r in zip(times, reference, strict=True)])
        for name, times in seconds.items()
    }
