"""What a certificate proves, beside what the attacks left: a part of an evaluation's results.

An evaluation knows no certificates; whoever has one hands over the figures of both sides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pnil_tf.errors import UserError
from pnil_tf.evaluation.output import REPORT, RESULTS
from pnil_tf.files import lock_folder, read_json, understood, write_record, write_text
from pnil_tf.html import section, table

Compare = Callable[[np.ndarray], Mapping[str, Any]]
"""From the judge's votes on each worst adversarial image, int `(n, draws)`, to both sides."""

Beside = Callable[[Mapping[str, Any], np.ndarray, np.ndarray], Compare | None]
"""What to compare with, if anything fits an evaluation: of its identity, the digests of its images,
as `digests_of` has them, and its labels."""

HEADS = ("", "proved, at least", "attacked, at most", "images")
_KINDS = (("majority of draws", "majority"), ("single draws", "single_draw"))
_BEGIN, _END = "<!-- both sides -->", "<!-- end of both sides -->"
_PLACE = re.compile(f"{_BEGIN}.*?{_END}", re.DOTALL)


def rows_of(sides: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Both sides as the cells below `HEADS`.

    Args:
        sides: For `majority` and `single_draw` the figures `proved` and `attacked`; `images`.
    """
    return [
        (
            title,
            *(_interval(sides[name][side]) for side in ("proved", "attacked")),
            str(sides["images"]),
        )
        for title, name in _KINDS
    ]


def sentence(sides: Mapping[str, Any]) -> str:
    """Both sides in one sentence."""
    parts = [
        f"{title}, at least {sides[name]['proved']['value']:.1%} proved and at most "
        f"{sides[name]['attacked']['value']:.1%} left by the attacks"
        for title, name in _KINDS
    ]
    return f"Both sides, on {sides['images']} images: {'; '.join(parts)}."


def part_of_page(sides: Mapping[str, Any] | None) -> str:
    """The report's section, or the place where it may come later."""
    if sides is None:
        return _BEGIN + _END
    words = (
        "<p>What is proved holds under every attack, so the truth lies between the two columns. "
        "The certificate's own page says what it is about.</p>"
    )
    return _BEGIN + section("Both sides", words + table(HEADS, rows_of(sides))) + _END


def put_beside(folder: Path, sides: Mapping[str, Any], arrays: str) -> bool:
    """Has the finished results and report in a folder show both sides.

    Args:
        folder: The evaluation's.
        sides: As for `rows_of`.
        arrays: sha256 of the arrays of the evaluation that they are about.

    Returns:
        Whether the report has a place for them; older ones have none, and are left alone.

    Raises:
        UserError: If the folder holds another evaluation by now.
    """
    with lock_folder(folder):
        results = read_json(folder / RESULTS)
        with understood(folder / RESULTS):
            now = results["arrays"]["sha256"]
        if now != arrays:
            raise UserError(f"The evaluation in {folder} was done anew since. Certify again.")
        page = (folder / REPORT).read_text("utf-8")
        if not _PLACE.search(page):
            return False
        write_text(folder / REPORT, _PLACE.sub(lambda _: part_of_page(sides), page))
        write_record(folder / RESULTS, {**results, "both_sides": dict(sides)})
    return True


def take_away(folder: Path, certificate: Path, arrays: Collection[str]) -> None:
    """Has an evaluation no longer show what a certificate claims that was withdrawn.

    Args:
        folder: The evaluation's; nothing happens where there is none, or it shows no such thing.
        certificate: The certificate's folder, by which earlier versions named it alone.
        arrays: sha256 of the arrays of those that were withdrawn there, or replaced.

    Raises:
        UserError: If another process works in the folder, or its results are damaged.
    """
    if not (folder / RESULTS).is_file():
        return
    with lock_folder(folder):
        results = read_json(folder / RESULTS)
        if not _names(results.get("both_sides", {}), certificate, arrays):
            return
        page = (folder / REPORT).read_text("utf-8")
        write_text(folder / REPORT, _PLACE.sub(lambda _: part_of_page(None), page))
        del results["both_sides"]
        write_record(folder / RESULTS, results)


def _names(sides: Mapping[str, Any], certificate: Path, arrays: Collection[str]) -> bool:
    if "certificate_arrays" in sides:
        return sides["certificate_arrays"] in arrays
    named = sides.get("certificate")
    return named is not None and Path(named).resolve() == certificate.resolve()


def _interval(figure: Mapping[str, Any]) -> str:
    return f"{figure['value']:.1%} ({figure['low']:.1%} to {figure['high']:.1%})"
