"""New Python processes that import what is installed, not what lies in the current folder."""

from __future__ import annotations

import sys

# Python looks for modules in the current folder first, under the name "", when it is given code
# (-c) or a module (-m). A file `numpy.py` there would be run. (-P does the same from Python 3.11.)
_ELSEWHERE = "import sys; sys.path = [place for place in sys.path if place]\n"
_MODULE = "import runpy; runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"


def run_code(code: str, *arguments: str) -> list[str]:
    """Returns the command that runs Python code with arguments."""
    return [sys.executable, "-c", _ELSEWHERE + code, *arguments]


def run_module(module: str, *arguments: str) -> list[str]:
    """Returns the command that runs a module, by its full name, with arguments."""
    return run_code(_MODULE, module, *arguments)
