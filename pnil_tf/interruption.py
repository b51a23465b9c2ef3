"""What an interrupted command says on its way out."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def interruption_told(sentence: Callable[[], str]) -> Iterator[None]:
    """Tells, when Ctrl-C or SIGTERM ends the work within it, what is kept and how to go on.

    Args:
        sentence: Called then and only then.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        logger.warning("%s", sentence())
        raise
