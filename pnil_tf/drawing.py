"""Pictures that look the same wherever they are drawn."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def own_style() -> Iterator[None]:
    """Within it, and within functions that it decorates, Matplotlib draws by its own defaults.

    Otherwise a `matplotlibrc` in the current folder would decide: it may ask for LaTeX, run with a
    preamble of its own, or fail at the end of an evaluation of hours.
    """
    from matplotlib import style  # slow to import, and rarely needed

    with style.context("default"):
        yield
