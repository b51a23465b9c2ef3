"""What all commands share: flags in, errors and exit statuses out."""

from __future__ import annotations

import inspect
import logging
import os
import sys
import textwrap
from collections.abc import Callable
from typing import NoReturn

from absl import flags

from pnil_tf import flags as pnil_flags
from pnil_tf.errors import UserError, failure, speaking_of_flags
from pnil_tf.interruption import interruption_alone
from pnil_tf.leaving import work_and_leave
from pnil_tf.logs import quiet_level
from pnil_tf.signals import answer_signals
from pnil_tf.standard_streams import guard, lost_output
from pnil_tf.version import __version__


def run(command: Callable[[], None], *groups: str) -> NoReturn:
    """Runs a command: parses its flags, calls it, and exits.

    The exit status is 0 for success, 2 for a user's mistake, 1 for a failure, 130 after Ctrl-C
    and 143 after SIGTERM. A mistake costs the user one sentence, not a traceback.

    Args:
        command: The command; its module's docstring is the help text.
        *groups: Groups of flags it takes, see `pnil_tf.flags.define`.
    """
    _speak_utf8()
    guard()
    answer_signals()
    work_and_leave(lambda: _work(command, groups))


def _work(command: Callable[[], None], groups: tuple[str, ...]) -> NoReturn:
    program = os.path.basename(sys.argv[0])
    pnil_flags.define(*groups)
    if any(argument in ("--help", "-h", "-help", "--helpfull") for argument in sys.argv[1:]):
        print(
            _help((inspect.getmodule(command).__doc__ or "").replace("{program}", _said(program)))
        )
        leave_well(program)
    if "--version" in sys.argv[1:]:
        print(f"pnil_tf {__version__}")
        leave_well(program)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", quiet_level())  # before TensorFlow is imported
    logging.basicConfig(format="%(message)s")
    logging.getLogger("pnil_tf").setLevel(logging.INFO)
    try:
        pnil_flags.parse(sys.argv)
        with speaking_of_flags(), interruption_alone():
            command()
    except (flags.Error, UserError) as error:
        leave(program, error, 2)
    except Exception as error:
        sentence = failure(error)
        if sentence is None:
            raise
        leave(program, sentence, 1)
    leave_well(program)


def _speak_utf8() -> None:
    """Starts the command again in Python's UTF-8 mode where the locale is another one.

    TensorFlow takes every path for UTF-8, so a name with letters beyond ASCII would be two
    different files, and a text with one could not be printed.
    """
    if sys.getfilesystemencoding() != "utf-8":
        os.environ["PYTHONUTF8"] = "1"  # for the processes that it starts, too
        os.execv(sys.executable, sys.orig_argv)


def leave_well(program: str) -> NoReturn:
    """Ends the process with success, unless what it printed was lost."""
    lost = lost_output()
    if lost is not None:
        leave(program, f"What it says could not be written to standard output: {lost}.", 1)
    sys.exit(0)


def _said(program: str) -> str:
    """How the program is called: a script of a clone, or an installed command."""
    return f"python bin/{program}" if program.endswith(".py") else program


def leave(program: str, error: Exception | str, status: int) -> NoReturn:
    """Ends the process with an error in one sentence."""
    print(f"{program}: {error}", file=sys.stderr)
    sys.exit(status)


def _help(description: str) -> str:
    lines = [description.strip(), ""]
    for group, names in pnil_flags.groups():
        lines.append(f"{group}:")
        for name in names:
            flag = flags.FLAGS[name]
            default = flag.default_unparsed
            default = ",".join(map(str, default)) if isinstance(default, tuple) else default
            lines.append(f"  --{name}" + ("" if default in (None, "") else f" [{default}]"))
            lines += textwrap.wrap(flag.help, 88, initial_indent=" " * 6, subsequent_indent=" " * 6)
        lines.append("")
    lines.append(
        "A flag of two states is --flag or --noflag. --flagfile=PATH reads flags from a file, "
        "--flagfile=preset:NAME from one that comes with the package. --version says the version."
    )
    return "\n".join(lines)
