"""Ctrl-C and SIGTERM: answered at once, or without TensorFlow if that does not return."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SECONDS = 10.0
"""How long TensorFlow is waited for. It does not hear signals, and an operation may take hours."""

_LEFT = (
    b"\nStopped: TensorFlow did not return in time. What was saved before is whole, and a command "
    b"that has --resume goes on from there.\n"
)

_heard = threading.Event()


def answer_signals(seconds: float = _SECONDS) -> None:
    """Has this process unwind its stack at a signal, so that what can be kept is kept.

    Python does so between two operations of TensorFlow. Where that takes longer than `seconds`,
    the process ends as if it was killed: all files are whole or absent at any moment.
    """
    # A shell that starts a command in the background has it ignore SIGINT; one that is sent all
    # the same is meant.
    for number in SIGNALS:
        signal.signal(number, _unwind)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_wait, args=(reading, seconds), daemon=True).start()


def _unwind(number: int, frame: FrameType | None) -> NoReturn:
    _heard.set()
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def _wait(reading: int, seconds: float) -> None:
    """Python's part of a signal's handling writes its number at once, whatever else runs."""
    while number := os.read(reading, 1):
        if number[0] in SIGNALS and not _heard.wait(seconds):
            with contextlib.suppress(OSError):  # a closed stream; the others may be locked
                os.write(2, _LEFT)
            os._exit(128 + number[0])
