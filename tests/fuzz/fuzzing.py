"""Fuzzing in one process: cases that are whole things, slightly damaged."""

import copy
import os
import time
from pathlib import Path

import pytest
from absl import flags as absl_flags
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pnil_tf.errors import RunFailedError, UserError

_MANY_SECONDS = 3600.0
SIZES = [
    pytest.param(False, id="few"),
    pytest.param(True, id="many", marks=[pytest.mark.slow, pytest.mark.timeout(2 * _MANY_SECONDS)]),
]
"""A few cases, the same ones in every run, or many new ones."""

# What the commands answer with a sentence.
SAID = (UserError, RunFailedError, absl_flags.Error)
# Anything slower hangs, for all that a user can tell.
_SLOWEST_CASE = 30.0
_FEW_SECONDS = 150.0

made = {}
"""The number of cases by the name of the test."""


class ReachedTheWorkError(Exception):
    """Raised in place of the long work that an input would begin: it was taken for right."""


def fuzz(many, strategy, check, few_cases, many_cases):
    """Calls `check` with cases of a strategy; it may succeed, or fail with a sentence."""
    name = os.environ["PYTEST_CURRENT_TEST"].split("::")[-1].split(" ")[0]
    end = time.monotonic() + (_MANY_SECONDS if many else _FEW_SECONDS)

    @settings(
        max_examples=many_cases if many else few_cases,
        derandomize=not many,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(strategy)
    def cases(case):
        if time.monotonic() > end:
            return
        begun = _seconds()
        made[name] = made.get(name, 0) + 1
        try:
            check(case)
        except (*SAID, ReachedTheWorkError):
            pass
        assert _seconds() - begun < _SLOWEST_CASE

    cases()


def _seconds() -> float:
    """The time, without what this thread waited for a core: others may keep the machine busy."""
    statistics = Path("/proc/thread-self/schedstat")
    waited = int(statistics.read_text().split()[1]) if statistics.exists() else 0
    return time.monotonic() - waited / 1e9


class Arena:
    """A folder to work in, with files around it that nothing may touch."""

    def __init__(self, root: Path):
        self.root, self.inside = root, root / "inside"
        self.inside.mkdir(parents=True)
        (root / "outside").mkdir()
        (root / "outside" / "thesis.txt").write_text("years of work")
        for name in ("step-1.index", "step-1.data-00000-of-00001"):
            (root / "outside" / name).write_text("weights")
        self._before = self._around()

    def _around(self):
        return {
            path: path.read_bytes() if path.is_file() else None
            for path in sorted(self.root.rglob("*"))
            if self.inside not in (path, *path.parents)
        }

    def assert_untouched(self, but=None):
        """Nothing around changed, `but` for a folder of this name that may have come."""
        around = self._around()
        if but is not None:
            kept = self.root / but
            around = {k: v for k, v in around.items() if kept not in (k, *k.parents)}
        assert around == self._before


ODD_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.sampled_from([2**31, 2**63, 10**40, -(10**40), 10**400, 50_000_000]),
    st.sampled_from([0.5, -1.0, 1e308, 1e-320]),
    st.sampled_from(["", ".", "../../x", "a\0b", "\ud800", "<b>", "nan", "1", "x" * 5000, "/"]),
    st.sampled_from(
        ["\x1b[2J", "a\r\nb", "\u202egnp.exe", "/dev/zero", "os.system", "pgd-1000000"]
    ),
    st.sampled_from([[], [1], [[]], {}, {"a": 1}, ["a", "b"], [None] * 3]),
).map(copy.deepcopy)  # what is put into a value may be damaged in turn


@st.composite
def damaged_json(draw, whole):
    """A JSON value with one to three of its parts replaced, removed or added."""
    value = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        value = _damaged_once(draw, value)
    return value


def _damaged_once(draw, value):
    places = list(_places(value))
    if not places:
        return draw(ODD_VALUES)
    container, key = draw(st.sampled_from(places))
    how = draw(st.sampled_from(["replace", "replace", "replace", "remove", "swap", "whole"]))
    if how == "replace":
        container[key] = draw(ODD_VALUES)
    elif how == "remove":
        del container[key]
    elif how == "swap":
        other, place = draw(st.sampled_from(places))
        container[key] = copy.deepcopy(other[place])
    elif draw(st.integers(0, 9)) == 0:
        return draw(ODD_VALUES)
    return value


def _places(value):
    if isinstance(value, dict):
        for key in value:
            yield value, key
            yield from _places(value[key])
    elif isinstance(value, list):
        for i, entry in enumerate(value):
            yield value, i
            yield from _places(entry)


@st.composite
def damaged_bytes(draw, *wholes):
    """One of some contents with bytes flipped, cut off, left out or put in."""
    content = bytearray(draw(st.sampled_from(wholes)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        how = draw(st.sampled_from(["flip", "flip", "flip", "cut", "drop", "insert", "nothing"]))
        if how == "flip" and at < len(content):
            content[at] = draw(st.integers(0, 255))
        elif how == "cut":
            del content[at:]
        elif how == "drop":
            del content[at : at + draw(st.integers(1, 16))]
        elif how == "insert":
            content[at:at] = draw(st.binary(min_size=1, max_size=8))
    return bytes(content)
