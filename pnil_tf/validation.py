"""Checks that all settings share. Imports no TensorFlow."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import fractions
import inspect
import math
import numbers
import types
import typing
from collections.abc import Callable, Collection
from typing import Any

from pnil_tf.errors import UserError, argument

# TensorFlow counts steps, images and draws in 32 bits here and there.
LARGEST_COUNT = 2**31 - 1
# Draws of the noise: no figure gains by more, and a machine would be busy or full for ever.
MOST_DRAWS = 100_000

_ABSTRACT = {int: numbers.Integral, float: numbers.Real}


def use_plain_numbers(settings: Any) -> None:
    """Puts Python's numbers in place of others, such as NumPy's, which no JSON can hold.

    Args:
        settings: An instance of a dataclass, frozen or not; it is changed.
    """
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, numbers.Real) and not isinstance(value, bool):
            plain = int(value) if isinstance(value, numbers.Integral) else float(value)
            if "float" in str(field.type):
                with contextlib.suppress(OverflowError):  # refused where its size is looked at
                    plain = float(plain)
            object.__setattr__(settings, field.name, plain)


def check_types(settings: Any) -> None:
    """Refuses a value of another type than its field's: they may come from a file, or from Python.

    Numbers of NumPy's become Python's, see `use_plain_numbers`; a list or an array becomes a tuple
    where the field is one.

    Args:
        settings: An instance of a dataclass; its name stands for the flags of this name.

    Raises:
        UserError: If a value is not of its field's type.
    """
    use_plain_numbers(settings)
    for name, kind in typing.get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        if getattr(value, "ndim", 0):  # an array
            value = value.tolist()
        if isinstance(value, list) and _is(tuple(value), kind):
            object.__setattr__(settings, name, tuple(value))
        elif not _is(value, kind):
            said = getattr(kind, "__name__", None) or str(kind)
            raise UserError(
                f"{argument(name)} must be of the type {said}. Received: {value!r}."
                f"{without_quotes(value)}"
            )


def without_quotes(value: Any) -> str:
    """The advice, after a space, for a number that was given as text; empty for all else."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError, ZeroDivisionError):
            fractions.Fraction(value)
            return f" Write {value.strip()} without quotes."
    return ""


def require(condition: bool, message: str) -> None:
    """Raises `UserError(message)` unless `condition` holds."""
    if not condition:
        raise UserError(message)


def require_positive(name: str, value: float) -> None:
    """Refuses a number that is not greater than 0, or not finite."""
    require(
        _is_finite(value) and value > 0,
        f"{argument(name)} must be greater than 0, and finite. Received: {_short(value)}.",
    )


def require_count(name: str, value: int, most: int = LARGEST_COUNT) -> None:
    """Refuses a count below 1, or beyond what TensorFlow can count, or else `most`."""
    require(
        1 <= value <= most,
        f"{argument(name)} must be a whole number, at least 1 and at most {most}. "
        f"Received: {_short(value)}.",
    )


def require_part_or_count(name: str, value: float, parts: int) -> None:
    """Refuses what is neither a part of 1, which has so many parts, nor a whole number."""
    part = value == 0 or 1 / parts <= value <= 1
    require(
        part or (1 <= value <= LARGEST_COUNT and value == int(value)),
        f"{argument(name)} must be 0 or a part of 1, such as 0.5, or a whole number. "
        f"Received: {_short(value)}.",
    )


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # Python's whole numbers go beyond its floats
        return False


def _short(value: float) -> str:
    """A number as it is shown; one of very many digits cannot be turned into text."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a whole number of more than {int(value.bit_length() * math.log10(2)):,} digits"
    return repr(value)


def require_one_of(name: str, value: Any, names: Collection[str]) -> None:
    """Refuses what is none of some names."""
    require(
        value in names,
        f"{argument(name)} must be one of {', '.join(names)}. Received: {value!r}."
        f"{' '.join(['', *meant(value, names)])}",
    )


def require_known(what: str, value: Any, names: Collection[str]) -> None:
    """Refuses a name that nothing has, and says which was probably meant.

    Args:
        what: Of what kind the names are.
        value: What was given.
        names: Those that there are.
    """
    if value not in names:
        said = [*meant(value, names), f"Choose from {', '.join(names)}."]
        raise UserError(f"No {what} has this name. Received: {value!r}. {' '.join(said)}")


def keyword_names(function: Callable[..., Any]) -> list[str]:
    """The arguments of a function that can be passed by their name alone."""
    parameters = inspect.signature(function).parameters.values()
    return [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]


def require_fields(what: str, kind: Any, given: Collection[str], others: Collection[str]) -> None:
    """Refuses the name of a setting that there is not.

    Args:
        what: What has the settings, to begin a sentence with.
        kind: Their dataclass.
        given: The names.
        others: Further arguments that the caller has, to be named where a name is unknown.
    """
    settings = [field.name for field in dataclasses.fields(kind)]
    known = list(dict.fromkeys([*settings, *others]))
    for name in given:
        if name not in settings:
            [hint] = meant(name, known) or [f"There are {', '.join(known)}."]
            raise UserError(f"{what} has no setting {name!r}. {hint}")


def meant(value: Any, names: Collection[str]) -> list[str]:
    """The question whether the nearest of some names was meant, if one is near."""
    near = difflib.get_close_matches(value, names, 1) if isinstance(value, str) else []
    return [f"Did you mean {name!r}?" for name in near]


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and _is_finite(value)


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is(value: Any, kind: Any) -> bool:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return any(_is(value, one) for one in inner)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = [inner[0]] * len(value) if inner[-1] is ... else inner
        return len(value) == len(kinds) and all(map(_is, value, kinds))
    if kind is Any:
        return True
    if kind in _ABSTRACT and isinstance(value, bool):
        return False  # Python takes True for a number
    return isinstance(value, _ABSTRACT.get(kind, kind))
