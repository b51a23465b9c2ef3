"""The exceptions that a command answers with a sentence instead of a traceback."""

from __future__ import annotations

import contextlib
import contextvars
import os
import re
import sys
from collections.abc import Iterator

_SPEAKS_OF = "PNIL_TF_ERRORS_SPEAK_OF"
_OF_FLAGS = contextvars.ContextVar(
    "pnil_tf_errors_speak_of_flags", default=os.environ.get(_SPEAKS_OF) == "flags"
)


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
    text = re.sub(r"\[\[\{\{.*?\}\}\]\]|\{\{.*?\}\}|\[Op:\w+\]|\x1b\[\d*m", "", str(error))
    # TensorFlow says first, and at length, where in the program the operation was made.
    text = re.sub(r"(?m)^Graph execution error:$|^Detected at node .* defined at .*:$", "", text)
    text = re.sub(r"(?m)^ +File .*, line \d+.*$", "", text)
    # Keras says where it was, too, and with which arguments; of a file that cannot be loaded, all
    # of its configuration before the cause, and the layer's after it.
    text = re.sub(r"(?s)^.*\nException encountered: |\s*Full object config: .*", "", text)
    text = re.sub(
        r"(?s)^Exception encountered when calling .*?\n|\n\s*Arguments received by.*", "", text
    )
    return " ".join(text.split())[:300] or type(error).__name__


def failure(error: BaseException) -> str | None:
    """The sentence that answers an exception: what went wrong and, where we know, what helps.

    Returns:
        The sentence; `None` for an exception that must be a fault of the program.
    """
    if isinstance(error, (UserError, RunFailedError, OSError)):
        return str(error)  # OSError: a full disk, a folder without permission, a lost share
    tensorflow = sys.modules.get("tensorflow")
    of_tensorflow = tensorflow is not None and isinstance(error, tensorflow.errors.OpError)
    # TensorFlow's class for full memory is the one for a full disk, too.
    if isinstance(error, MemoryError) or (of_tensorflow and "OOM when allocating" in str(error)):
        return f"The memory is full: {reason(error)}. Smaller batches need less of it."
    return reason(error) if of_tensorflow else None


@contextlib.contextmanager
def speaking_of_flags() -> Iterator[None]:
    """Within it, errors call an argument by its flag: it is a command that the user gave."""
    token = _OF_FLAGS.set(True)
    try:
        yield
    finally:
        _OF_FLAGS.reset(token)


def speech() -> dict[str, str]:
    """The environment variable by which errors in another process speak as they do here."""
    return {_SPEAKS_OF: "flags" if _OF_FLAGS.get() else "arguments"}


def argument(name: str, value: object = None) -> str:
    """What an error calls an argument: `epsilon` in Python, `--epsilon` in a command.

    Args:
        name: The argument's name, which is the flag's.
        value: What it was set to, if that is to be said: `epsilon=2` or `--epsilon=2`; text that
            begins with a digit is a number, such as `8/255`.
    """
    flag = _OF_FLAGS.get()
    said = f"--{name}" if flag else name
    if value is None:
        return said
    if flag and isinstance(value, bool):
        return said if value else f"--no{name}"
    if isinstance(value, tuple):
        parts = [_said(p, flag) if isinstance(p, str) else f"{p:g}" for p in value]
        return f"{said}={','.join(parts)}" if flag else f"{said}=({', '.join(parts)})"
    return f"{said}={_said(value, flag)}"


def _said(value: object, flag: bool) -> str:
    quoted = isinstance(value, str) and not value[:1].isdigit() and not flag
    return repr(value) if quoted else str(value)


def repeated_with(name: str) -> str:
    """How to ask for the same once more, with an argument of two states that is now to be true."""
    if _OF_FLAGS.get():
        return f"the same command with --{name}"
    return f"the same call with {name}=True"
