"""Progress that a person sees as a bar, and a log file as a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

import tqdm.auto

_SECONDS_BETWEEN_LINES = 10.0
_BELIEVED = 0.1
"""Share of the whole before which its own pace says too little: it begins with making graphs."""


class Progress:
    """Counts units of work; shows rate and time left on `stream`.

    Args:
        title: What is being done.
        total: Units of work.
        unit: Name of one unit.
        done: Units that an earlier run has done.
        stream: A terminal gets a bar; anything else gets plain lines.
    """

    def __init__(
        self,
        title: str,
        total: int,
        unit: str = "image",
        done: float = 0.0,
        stream: TextIO | None = None,
    ) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._stream = sys.stderr if stream is None else stream
        self._done = self._first = done
        self._start = self._last_line = time.monotonic()
        self._bar = None
        if self._stream.isatty():
            self._bar = tqdm.tqdm(
                total=total,
                initial=done,
                desc=title,
                unit=unit,
                file=_where_the_cursor_moves(self._stream),
                leave=False,
                bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total} "
                "[{elapsed}<{remaining}, {rate_fmt}{postfix}]",
            )

    def advance_to(self, done: float) -> None:
        """Says that `done` of the units are finished; fractions are welcome."""
        if self._bar is not None:
            self._bar.update(done - self._done)
        self._done = done
        now = time.monotonic()
        if self._bar is None and now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            self._line(now - self._start)

    def meanwhile(self, text: str) -> None:
        """Shows what is being done between two units; an empty text takes that away."""
        now = time.monotonic()
        if self._bar is not None:
            self._bar.set_postfix_str(text)
        elif text and now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            print(f"{self._title}: {text}", file=self._stream, flush=True)

    def say(self, text: str) -> None:
        """Prints a line without disturbing the bar."""
        _print_beside(self._bar, text, self._stream)

    def close(self, summary: str = "") -> None:
        """Takes the bar away and leaves one line: the title, the time and `summary`."""
        if self._bar is not None:
            self._bar.close()
        seconds = time.monotonic() - self._start
        print(f"{self._title}: {summary} ({clock(seconds)})", file=self._stream, flush=True)

    def _line(self, elapsed: float) -> None:
        rate = (self._done - self._first) / elapsed
        left = (self._total - self._done) / rate if rate else float("inf")
        print(
            f"{self._title}: {self._done:.0f} of {self._total} {self._unit}s, "
            f"{rate:.2f} {self._unit}s/s, {clock(left)} left",
            file=self._stream,
            flush=True,
        )


class Stages:
    """One bar over the whole of some work, which is done in stages of predicted lengths.

    A terminal and a notebook get the bar of `tqdm.auto`, anything else a line now and then. Each
    stage leaves a line.

    Args:
        title: What is being done.
        verbose: 0 for silence, 1 for a bar where there can be one, 2 for lines.
        stream: Where to; `sys.stderr` by default.
    """

    def __init__(self, title: str, verbose: int = 1, stream: TextIO | None = None) -> None:
        self._title, self._silent = title, verbose == 0
        self._stream = sys.stderr if stream is None else stream
        self._draws = verbose == 1 and (self._stream.isatty() or _in_notebook())
        self._expected: dict[str, float] = {}
        self._finished = self._within = 0.0
        self._bar: Any = None
        self._start = self._last_line = time.monotonic()

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Says which stages there will be, and about how long each takes; the clock starts."""
        self._expected = dict(seconds)
        self._finished = self._within = 0.0
        self._start = self._last_line = time.monotonic()
        if self._draws:
            self._bar = tqdm.auto.tqdm(
                total=sum(seconds.values()),
                desc=self._title,
                file=_where_the_cursor_moves(self._stream),
                leave=False,
                smoothing=0,  # stages differ too much for the latest rate to tell of the next
                bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}",
            )

    def expect_more(self, seconds: Mapping[str, float]) -> None:
        """Says which stages there will be besides, and about how long each takes."""
        self._expected |= seconds
        if self._bar is not None:
            self._bar.total += sum(seconds.values())

    def begin(self, name: str, total: int, unit: str = "image") -> Stage:
        """Begins a stage of `total` units of work; one that nobody expected takes no time."""
        return Stage(self, name, total, unit, self._expected.pop(name, 0.0))

    def say(self, text: str) -> None:
        """Prints a line without disturbing the bar."""
        if not self._silent:
            _print_beside(self._bar, text, self._stream)

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def stage_is_at(self, stage: Stage, seconds: float) -> None:
        """Takes note of how far a stage has come, in seconds of its predicted length."""
        self._within = seconds
        self._show(stage)

    def stage_is_over(self, stage: Stage) -> None:
        """Takes note that a stage is finished."""
        self._finished += stage.seconds
        stage.seconds = 0.0  # or it would count as still to come
        self.stage_is_at(stage, 0.0)

    def _show(self, stage: Stage) -> None:
        reached, now = self._finished + self._within, time.monotonic()
        if self._bar is not None:
            self._bar.set_postfix_str(f"{clock(self._left(stage, now))} left ({stage})", False)
            self._bar.update(reached - self._bar.n)
        elif not self._silent and now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            self.say(f"{self._title}: {clock(self._left(stage, now))} left ({stage})")

    def _left(self, stage: Stage, now: float) -> float:
        """Seconds to come, at the pace so far; what is missing of the first tenth is foretold."""
        reached = self._finished + self._within
        whole = self._finished + stage.seconds + sum(self._expected.values())
        foretold = max(_BELIEVED * whole - reached, 0.0)
        known = reached + foretold
        if not known:
            return float("inf")
        return (now - self._start + foretold) * max(whole - reached, 0.0) / known


class Stage:
    """One stage of some work. `Stages.begin` makes it.

    Args:
        stages: The whole.
        name: What is being done.
        total: Units of work.
        unit: Name of one unit.
        seconds: Predicted length.
    """

    def __init__(self, stages: Stages, name: str, total: int, unit: str, seconds: float) -> None:
        self.seconds = seconds
        self._stages, self._name, self._unit = stages, name, unit
        self._total, self._done = total, 0.0
        self._start = time.monotonic()

    def advance_to(self, done: float) -> None:
        """Says that `done` of the units are finished; fractions are welcome."""
        self._done = done
        self._stages.stage_is_at(self, self.seconds * done / self._total)

    def close(self, summary: str = "") -> None:
        """Ends the stage, and leaves a line if there is anything to say."""
        self._done = self._total
        self._stages.stage_is_over(self)
        if summary:
            seconds = time.monotonic() - self._start
            self._stages.say(f"{self._name}: {summary} ({clock(seconds)})")

    def __str__(self) -> str:
        return f"{self._name}: {self._done:.0f} of {self._total} {self._unit}s"


def _where_the_cursor_moves(stream: TextIO) -> TextIO:
    """The stream for a bar: one that shows control characters would show those that move it."""
    return getattr(stream, "unfiltered", stream)


def _print_beside(bar: Any, text: str, stream: TextIO) -> None:
    if bar is not None:
        bar.clear()
    print(text, file=stream, flush=True)
    if bar is not None:
        bar.refresh()


def _in_notebook() -> bool:
    """Whether `tqdm.auto` has chosen the bar of notebooks."""
    return any(base.__module__ == "tqdm.notebook" for base in tqdm.auto.tqdm.__mro__)


def clock(seconds: float) -> str:
    """Returns a duration in seconds, >= 0, as a person reads it: `1:02:03` or `2:03`."""
    if seconds == float("inf"):
        return "an unknown time"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
