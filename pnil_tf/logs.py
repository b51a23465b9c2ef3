"""Keeps the log messages of other libraries off the screen where they would only worry."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator


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
