"""Benchmark rows as a Markdown table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_COLUMNS = {
    "per_second": "per second",
    "ratio": "ratio (range)",
    "floor": "floor of the ratio",
    "floor_per_second": "floor per second",
    "times_floor": "times the floor",
    "peak_mib": "peak MiB",
}


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Returns a table with one line per row; columns no row has are left out."""
    keys = [key for key in dict.fromkeys(k for row in rows for k in row) if key not in _HIDDEN]
    lines = ["| " + " | ".join(_COLUMNS.get(key, key.replace("_", " ")) for key in keys) + " |"]
    lines.append("|" + " --- |" * len(keys))
    lines += ["| " + " | ".join(_cell(key, row) for key in keys) + " |" for row in rows]
    return "\n".join(lines)


_HIDDEN = ("per_second_range", "ratio_range", "rounds")


def _cell(key: str, row: dict[str, Any]) -> str:
    value = row.get(key)
    if value is None:
        return ""
    if key in ("per_second", "floor_per_second", "peak_mib"):
        return f"{value:,.0f}"
    if key == "ratio":
        low, high = row["ratio_range"]
        return f"{value:.2f} ({low:.2f} - {high:.2f})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
