"""Spares Python's garbage collector the objects that a large library keeps for good."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def imports_alone() -> Iterator[None]:
    """For a block that imports and does nothing else, in a process of our own.

    TensorFlow makes more than half a million objects that stay. To look through them for garbage
    again and again takes a third of the time in which a command starts.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
