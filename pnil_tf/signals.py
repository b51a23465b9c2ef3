"""Ctrl-C and SIGTERM: answered at once, or without the work under way if it does not return."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import sysconfig
import threading
from types import FrameType
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SECONDS = 10.0
"""How long the work of other packages is waited for. TensorFlow does not hear signals, and an
operation may take hours; a package may wait for something in Python."""

_LEFT = (
    b"\nStopped: the work under way did not return in time. What was saved before is whole, and a "
    b"command that has --resume goes on from there.\n"
)

_OURS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")
_PYTHON = os.path.join(sysconfig.get_path("stdlib"), "")
# By name: those of the Python that a virtual environment is made from lie below its library, too.
_INSTALLED = {"site-packages", "dist-packages"}

_heard = threading.Event()


def answer_signals(seconds: float = _SECONDS) -> None:
    """Has this process unwind its stack at a signal, so that what can be kept is kept.

    Python does so between two operations of TensorFlow. Where one takes longer than `seconds`, or
    another package keeps Python waiting, the process ends as if it was killed: all files are whole
    or absent at any moment.
    """
    # A shell that starts a command in the background has it ignore SIGINT; one that is sent all
    # the same is meant.
    for number in SIGNALS:
        signal.signal(number, unwind)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_wait, args=(reading, seconds), daemon=True).start()


def unwind(number: int, frame: FrameType | None) -> None:
    """Raises what unwinds the stack: here, or as soon as other packages come back to ours.

    Python may answer a signal in the middle of TensorFlow's C++, which does not expect that what
    it asks of Python fails: it aborts, or goes on with a pointer to nothing.
    """
    ours = _waiting(frame)
    if ours is None:
        _leave(number)

    def at_the_next_line(frame: FrameType, event: str, argument: Any) -> NoReturn:
        sys.settrace(None)
        _leave(number)

    def called(frame: FrameType, event: str, argument: Any) -> None:
        if frame.f_code.co_filename.startswith(_OURS):  # as Keras calls a callback
            at_the_next_line(frame, event, argument)

    ours.f_trace = at_the_next_line
    sys.settrace(called)


def _leave(number: int) -> NoReturn:
    _heard.set()
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def _waiting(frame: FrameType | None) -> FrameType | None:
    """The innermost frame of ours, if it waits for code of other packages."""
    others = False
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_OURS) or frame.f_globals.get("__name__") == "__main__":
            return frame if others else None
        others = others or not _is_pythons(file)
        frame = frame.f_back
    return None


def _is_pythons(file: str) -> bool:
    return file.startswith("<frozen") or (
        file.startswith(_PYTHON) and _INSTALLED.isdisjoint(file.split(os.sep))
    )


def _wait(reading: int, seconds: float) -> None:
    """Python's part of a signal's handling writes its number at once, whatever else runs."""
    while number := os.read(reading, 1):
        if number[0] in SIGNALS and not _heard.wait(seconds):
            with contextlib.suppress(OSError):  # a closed stream; the others may be locked
                os.write(2, _LEFT)
            os._exit(128 + number[0])
