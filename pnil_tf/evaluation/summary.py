"""An evaluation's figures as rows of text, for the page, the terminal and a notebook alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HEADS = ("", "accuracy", "95 % interval", "images")


def accuracies(results: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Returns the names and figures of an evaluation, from clean to the worst case.

    Args:
        results: The content of `results.json`.
    """
    return [
        ("clean", results["clean"]),
        *results["attacks"].items(),
        *results["suites"].items(),
        ("effective robustness", results["effective_robustness"]),
        ("worst case", results["worst_case_per_image"]),
    ]


def reason(results: Mapping[str, Any]) -> str:
    """Returns the verdict's reason without the verdict, for those that say it themselves."""
    words = str(results["verdict_reason"]).removeprefix(f"{results['verdict']}: ")
    return words[:1].upper() + words[1:]


def rows(results: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Returns the cells below `HEADS`: what attacks left at most, and what is proved at least."""
    figures = accuracies(results)
    sides = results.get("both_sides")
    if sides:
        proved = {**sides["single_draw"]["proved"], "images": sides["images"]}
        figures.append(("proved, single draws", proved))
    return [
        (name, f"{row['value']:.1%}", f"{row['low']:.1%} to {row['high']:.1%}", str(row["images"]))
        for name, row in figures
    ]


def text_table(heads: tuple[str, ...], cells: list[tuple[str, ...]]) -> str:
    """Returns a table for a terminal: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    lines = []
    for row in (heads, *cells):
        first, *others = (
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join((first, *others)).rstrip())
    return "\n".join(lines)
