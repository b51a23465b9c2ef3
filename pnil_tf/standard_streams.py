"""The standard streams of a command: what they show, and what if nobody takes it.

Standard error is talk: where it cannot be written, the work goes on without. Standard output is a
result: where it cannot be written, the work goes on, too, and the command says so at its end. A
reader that has seen enough, as `head` has, is no failure.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any

from pnil_tf.visible import visible

_STANDARD = (0, 1, 2)


class Guarded(io.TextIOBase):
    """A text stream that shows no control characters of others, and survives its own end.

    Args:
        stream: Where the text goes.

    Attributes:
        unfiltered: The stream itself, for who moves a terminal's cursor on purpose.
        failed: Why something could not be written, if so.
    """

    def __init__(self, stream: Any) -> None:
        self.unfiltered = stream
        self.failed: OSError | None = None

    def write(self, text: str, /) -> int:
        """Writes what is visible of a text, or nothing where that cannot be done."""
        try:
            self.unfiltered.write(visible(text))
        except OSError as error:
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Hands on what was written."""
        try:
            self.unfiltered.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        if not isinstance(error, BrokenPipeError):
            self.failed = self.failed or error
        # What is left in the buffer would fail again, and once more when Python ends.
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), self.unfiltered.fileno())

    def isatty(self) -> bool:
        """Whether a person looks at it."""
        return bool(self.unfiltered.isatty())

    def fileno(self) -> int:
        """The number of the open file."""
        return int(self.unfiltered.fileno())

    def writable(self) -> bool:
        """Always."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """As which text becomes bytes."""
        return str(self.unfiltered.encoding)


def guard() -> None:
    """Guards standard output and standard error, and opens all three streams if they are closed.

    Otherwise the next file that is opened would get a closed one's number, and with it whatever
    TensorFlow says.
    """
    closed = [number for number in _STANDARD if not _is_open(number)]
    for number in closed:
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
    if 0 in closed:
        sys.stdin = _opened(0, "r")
    sys.stdout = Guarded(_opened(1, "w") if 1 in closed else sys.stdout)
    sys.stderr = Guarded(_opened(2, "w") if 2 in closed else sys.stderr)


def _opened(number: int, mode: str) -> Any:
    return open(number, mode, closefd=False)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return False
    return True


def lost_output() -> str | None:
    """Returns why some of standard output is lost, if it is."""
    sys.stdout.flush()
    failed = getattr(sys.stdout, "failed", None)
    return None if failed is None else str(failed)
