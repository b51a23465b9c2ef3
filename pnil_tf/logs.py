"""Keeps the log messages of other libraries off the screen where they would only worry."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator

from pnil_tf.garbage import imports_alone


@contextlib.contextmanager
def errors_only(name: str) -> Iterator[None]:
    """Within it, a logger shows errors and nothing below.

    Args:
        name: The logger's name: `"tensorflow"`, or `"absl"` for TensorFlow Datasets.
    """
    # A filter and not a level: absl's is shared, so that would silence our own warnings, too.
    logger = logging.getLogger(name)

    def only_errors(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    logger.addFilter(only_errors)
    try:
        yield
    finally:
        logger.removeFilter(only_errors)


_NVIDIA = "/dev/nvidiactl"


def quiet_level() -> str:
    """The `TF_CPP_MIN_LOG_LEVEL` of a command: errors alone, or nothing where no GPU can be.

    There TensorFlow has one error to tell, that it found none; all others come as exceptions, too.
    """
    return "2" if os.path.exists(_NVIDIA) else "3"


# What TensorFlow's C++ says of itself before it reads the level of its log. 2.18 registers
# a GPU's libraries twice, with or without a GPU.
_CHATTER = re.compile(
    rb"I\d{4} |WARNING: All log messages before absl::InitializeLog"
    rb"|E.*Unable to register cu\w+ factory: .* already been registered"
)


def import_tensorflow() -> None:
    """Imports TensorFlow for a command, without the lines that say nothing to its user.

    They come from C++ and go to the process' standard error, whatever Python's is; what is no
    mere information is passed on.
    """
    if "tensorflow" in sys.modules:
        return
    with tempfile.TemporaryFile() as aside:
        sys.stderr.flush()
        shown = os.dup(2)
        os.dup2(aside.fileno(), 2)
        try:
            with imports_alone():
                import tensorflow  # noqa: F401
        finally:
            os.dup2(shown, 2)
            os.close(shown)
            aside.seek(0)
            lines = [line for line in aside if not _CHATTER.match(line)]
            # Through Python's stream, which bears that nobody can take it.
            sys.stderr.write(b"".join(lines).decode(errors="replace"))
