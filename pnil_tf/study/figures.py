"""The paper's figures, redrawn from our cells."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pnil_tf.evaluation.plots import accuracy_curves
from pnil_tf.study import formatting
from pnil_tf.study.results import CELLS

_MAPS = Path("run") / "pnil_maps.png"


@dataclasses.dataclass(frozen=True)
class Picture:
    """One picture of the report.

    Args:
        name: Name of its file, without ending.
        caption: What it shows.
        png: Its bytes.
    """

    name: str
    caption: str
    png: bytes


def pictures(output: Path, cells: list[dict[str, Any]]) -> list[Picture]:
    """Draws what there is to draw.

    Args:
        output: The study's folder.
        cells: The records of `pnil_tf.study.results.merged`.
    """
    return [
        *_maps(output, cells),
        *_curve(
            cells,
            "figure4",
            "draws",
            "EOT draws at every step",
            lambda entry: entry["options"]["eot_samples"],
            "Accuracy under PGD over the draws of each of its gradients",
            log=True,
        ),
        *_curve(
            cells,
            "figure5",
            "epsilon",
            "epsilon",
            lambda entry: entry["epsilon"],
            "Accuracy under PGD over epsilon",
        ),
    ]


def _maps(output: Path, cells: list[dict[str, Any]]) -> list[Picture]:
    """Figure 1, one classifier's maps; and figure 3, those of each data set."""
    largest: dict[str, dict[str, Any]] = {}
    for record in (record for record in cells if record["cell"]):
        cell = record["cell"]
        wanted = cell["pnil"] and cell["attack"] == "nfgsm" and not cell["repeat"]
        if not wanted or cell["fold"] or not (output / CELLS / record["name"] / _MAPS).exists():
            continue
        best = largest.get(cell["dataset"])
        if best is None or cell["epsilon"] > best["cell"]["epsilon"]:
            largest[cell["dataset"]] = record
    found = []
    for number, (dataset, record) in enumerate(sorted(largest.items(), reverse=True)):
        png = (output / CELLS / record["name"] / _MAPS).read_bytes()
        where = formatting.setting(record)
        if number == 0:
            says = "What the layer does to images (the paper's figure 1)"
            found.append(Picture("figure1", f"{says}: {where}.", png))
        says = "What the layer has learned (the paper's figure 3)"
        found.append(Picture(f"figure3_{dataset}", f"{says}: {where}.", png))
    return found


def _curve(
    cells: list[dict[str, Any]],
    name: str,
    prefix: str,
    label: str,
    quantity: Callable[[dict[str, Any]], float],
    says: str,
    log: bool = False,
) -> list[Picture]:
    lines: dict[str, list[dict[str, Any]]] = {}
    places, images = {}, set()
    for record in cells:
        entries = [e for key, e in record["evaluations"].items() if key.startswith(prefix)]
        if len(entries) > 1:
            cell = record["cell"]
            lines[formatting.model(cell["attack"], cell["pnil"])] = sorted(
                ({"x": quantity(entry), **entry["pgd"]} for entry in entries),
                key=lambda point: point["x"],
            )
            places[formatting.setting(record)] = cell["epsilon"]
            images |= {entry["pgd"]["images"] for entry in entries}
    if not lines:
        return []
    mark = None if log else next(iter(places.values()))
    caption = (
        f"{says} (the paper's {name[:-1]} {name[-1]}): {', '.join(lines)}, trained on "
        f"{', '.join(places)}, "
        f"{', '.join(map(str, sorted(images)))} images, one run each, 95 % intervals over images."
    )
    return [Picture(name, caption, accuracy_curves(lines, "x", label, mark, log=log))]
