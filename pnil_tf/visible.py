"""Text from files and names, as a terminal or a page may show it."""

from __future__ import annotations

import unicodedata

_KEPT = "\n\t"
# Marks that turn the reading direction: with them a text looks like another one.
_TURNING = {chr(n) for n in (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}
# Characters of no width: with them two names look the same.
_WIDTHLESS = set("\u00ad\u200b\u2060\ufeff")
_HIDDEN_CATEGORIES = {"Cc", "Cs", "Zl", "Zp"}


def visible(text: str) -> str:
    r"""Returns a text in which characters that move the cursor or hide others are spelt out.

    These are control characters but for the end of a line and the tabulator, marks of the reading
    direction, characters of no width, and halves of surrogate pairs, which stand for bytes that
    are no UTF-8.

    Examples:
        >>> visible("run\x1b[2J")
        'run\\x1b[2J'
    """
    return "".join(_spelt(c) if _hides(c) else c for c in text)


def _hides(character: str) -> bool:
    if character in _KEPT:
        return False
    if character in _TURNING or character in _WIDTHLESS:
        return True
    return unicodedata.category(character) in _HIDDEN_CATEGORIES


def _spelt(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
