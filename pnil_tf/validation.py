"""Checks that all settings share. Imports no TensorFlow."""

from __future__ import annotations

import numbers
import types
import typing
from typing import Any

from pnil_tf.errors import UserError

# TensorFlow counts steps, images and draws in 32 bits here and there.
LARGEST_COUNT = 2**31 - 1
# Draws of the noise: no figure gains by more, and a machine would be busy or full for ever.
MOST_DRAWS = 100_000

_ABSTRACT = {int: numbers.Integral, float: numbers.Real}


def check_types(settings: Any) -> None:
    """Refuses a value of another type than its field's: they may come from a file, or from Python.

    Args:
        settings: An instance of a dataclass; its name stands for the flags of this name.

    Raises:
        UserError: If a value is not of its field's type.
    """
    for name, kind in typing.get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        if not _is(value, kind):
            said = getattr(kind, "__name__", None) or str(kind)
            raise UserError(f"{name} must be of the type {said}. Received: {value!r}.")


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
