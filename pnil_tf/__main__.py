"""`pnil-tf COMMAND`, which is there after an installation, or `python -m pnil_tf COMMAND`."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import NoReturn

from pnil_tf import cli
from pnil_tf.standard_streams import guard
from pnil_tf.validation import meant
from pnil_tf.version import __version__

PROGRAM = "pnil-tf"
COMMANDS = ("train", "evaluate", "certify", "export", "find-lr", "reproduce", "benchmark")


def main() -> NoReturn:
    """Runs the command that the first argument names, or says which there are."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name not in COMMANDS:
        _leave(name)
    command = _module(name)
    sys.argv[:2] = [f"{PROGRAM} {name}"]
    cli.run(command.main, *command.FLAGS)


def _leave(word: str) -> NoReturn:
    """Answers a first argument that is no command."""
    guard()
    if word in ("--help", "-h", "help"):
        print(_overview())
        cli.leave_well(PROGRAM)
    if word == "--version":
        print(f"pnil_tf {__version__}")
        cli.leave_well(PROGRAM)
    [advice] = meant(word, COMMANDS) or [f"There are {', '.join(COMMANDS)}."]
    cli.leave(PROGRAM, f"there is no command {word!r}. {advice}", 2)


def _module(command: str) -> ModuleType:
    return importlib.import_module(f"pnil_tf.commands.{command.replace('-', '_')}")


def _overview() -> str:
    lines = [f"{PROGRAM} COMMAND --FLAG=VALUE ..., where COMMAND is one of:", ""]
    for name in COMMANDS:
        summary = (_module(name).__doc__ or "").splitlines()[0].partition(": {program}")[0]
        lines.append(f"  {name:<10} {summary.rstrip('.')}.")
    lines += ["", f"{PROGRAM} COMMAND --help explains the flags of a command."]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
