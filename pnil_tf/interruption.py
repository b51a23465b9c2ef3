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
        with interruption_alone():
            yield
    except (KeyboardInterrupt, SystemExit):
        logger.warning("%s", sentence())
        raise


@contextlib.contextmanager
def interruption_alone() -> Iterator[None]:
    """Within it, Ctrl-C and SIGTERM end as what they are.

    A library that is interrupted may fail in putting its things away, and end in that error.
    """
    try:
        yield
    except Exception as error:
        behind: BaseException | None = error
        while behind is not None and not isinstance(behind, (KeyboardInterrupt, SystemExit)):
            behind = behind.__context__
        if behind is None:
            raise
        raise behind from None
