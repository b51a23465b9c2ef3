"""Progress that a person sees as a bar, and a log file as a line now and then."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0


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
            self._bar = tqdm(
                total=total,
                initial=done,
                desc=title,
                unit=unit,
                file=getattr(self._stream, "unfiltered", self._stream),  # it moves the cursor
                leave=False,
                bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total} "
                "[{elapsed}<{remaining}, {rate_fmt}]",
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

    def say(self, text: str) -> None:
        """Prints a line without disturbing the bar."""
        if self._bar is not None:
            self._bar.clear()
        print(text, file=self._stream, flush=True)
        if self._bar is not None:
            self._bar.refresh()

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


def clock(seconds: float) -> str:
    """Returns a duration in seconds, >= 0, as a person reads it: `1:02:03` or `2:03`."""
    if seconds == float("inf"):
        return "an unknown time"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
