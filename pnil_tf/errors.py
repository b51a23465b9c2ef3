"""The exceptions that a command answers with a sentence instead of a traceback."""

from __future__ import annotations

import re


class UserError(ValueError):
    """A user's mistake: the commands answer it with one sentence and exit status 2.

    The message says what was wrong, what was received, and what to do.
    """


class RunFailedError(RuntimeError):
    """Work that was asked for rightly and did not succeed: exit status 1.

    The message says what happened, what is left of the work, and what to do.
    """


def reason(error: BaseException) -> str:
    """What an exception of another library says, on one line and without its internals."""
    text = re.sub(r"\{\{.*?\}\}|\[Op:\w+\]", "", str(error))
    return " ".join(text.split())[:300] or type(error).__name__
