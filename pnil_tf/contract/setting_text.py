"""What an error calls a setting that is another one than before. Imports no TensorFlow."""

from __future__ import annotations

import fractions
from collections.abc import Iterable, Mapping
from typing import Any

from pnil_tf.contract.pixel_range import share_text
from pnil_tf.errors import argument


def setting_text(name: str, value: Any) -> str:
    """A setting with its value as it would be given: `--epsilon=8/255`, `no --steps`.

    Args:
        name: Its name.
        value: A value as settings or JSON keep it; `None` or nothing in a list is none.
    """
    if value is None or value in ([], ()):
        return f"no {argument(name)}"
    if isinstance(value, (list, tuple)):
        return argument(name, tuple(_exact(part) for part in value))
    return argument(name, _exact(value))


def settings_text(settings: Mapping[str, Any], names: Iterable[str]) -> str:
    """Some of the settings as they would be given, those that are absent as none."""
    return ", ".join(setting_text(name, settings.get(name)) for name in names)


def _exact(value: Any) -> Any:
    """A radius as `n/255` if it is exactly that; anything else as it is."""
    if not isinstance(value, float):
        return value
    text = share_text(value)
    return text if "/" in text and float(fractions.Fraction(text)) == value else value
