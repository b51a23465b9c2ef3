"""The table and the pictures of docs/certificate.md, made from the records in `docs/results`.

`python tests/certificate_table.py` prints the table and writes the pictures.
`python tests/certificate_table.py --record=RUN` prints a run's record, to go into one of the files
`docs/results/certificate_*.json`: below `learned`, or below `same_everywhere_SIGMA`.
"""

import argparse
import hashlib
import io
import json
from pathlib import Path

from PIL import Image, PngImagePlugin

from pnil_tf.certificate.output import RESULTS, sides_in
from pnil_tf.evaluation.plots import accuracy_curves

ROOT = Path(__file__).resolve().parent.parent
_RESULTS = ROOT / "docs" / "results"
_EVERYWHERE = "same_everywhere_"

# Title, file of records, radii in 255ths or (in l_2) as they are, and what others published.
ROWS = [
    ("MNIST", "certificate_mnist", (0, 2, 4, 8, 12, 16), {8: "60 ± 4%"}),
    ("Fashion-MNIST", "certificate_fashion_mnist", (0, 2, 4, 8), {4: "70 ± 0%"}),
    ("CIFAR-10", "certificate_cifar10", (0, 0.25, 0.5, 0.75), {}),
]
_COLUMNS = (
    "data",
    "radius",
    "certified, at least",
    "single draws, at least",
    "other seeds",
    "same noise everywhere",
    "majority attacked, at most",
    "the paper, attacked",
)
_OF_CERTIFICATE = (
    *("certified", "curve", "abstained", "majority", "images", "noise", "settings", "seconds"),
    *("draws_per_second", "versions", "finished", "data", "both_sides"),
)


def records_of(name: str) -> dict[str, list[dict]]:
    """The records in a file by what they are of; empty where nothing was measured."""
    file = _RESULTS / f"{name}.json"
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}


def groups(records: dict[str, list[dict]]) -> tuple[list[dict], list[tuple[str, dict]]]:
    """What the table is about, and the records of the same noise everywhere with their sigma.

    Where no noise was learned, as in l_2, it is about the first of the others.
    """
    everywhere = [
        (name.removeprefix(_EVERYWHERE), record)
        for name, found in records.items()
        if name.startswith(_EVERYWHERE)
        for record in found
    ]
    learned = records.get("learned", [])
    return (learned, everywhere) if learned else ([one for _, one in everywhere], [])


def at(points: list[dict], epsilon: float) -> dict | None:
    """The point at a radius, if there is one."""
    return next((point for point in points if abs(point["epsilon"] - epsilon) < 1e-9), None)


def percent(figure: dict, interval: bool = False) -> str:
    """A figure as a cell shows it."""
    words = f"{figure['value']:.1%}"
    return (
        f"{words} ({100 * figure['low']:.1f} to {100 * figure['high']:.1f})" if interval else words
    )


def _of_others(others: list[tuple[str, dict]], epsilon: float, images: int) -> str:
    cells = []
    for name, record in others:
        point = at(record["curve"], epsilon)
        if point is not None:
            fewer = "" if record["images"] == images else f"{record['images']} images"
            said = ", ".join(filter(None, (name, fewer)))
            cells.append(percent(point) + (f" ({said})" if said else ""))
    return "; ".join(cells)


def _attacked(record: dict, epsilon: float) -> str:
    sides = at(sides_in(record), epsilon)
    if sides is None:
        return ""
    fewer = "" if sides["images"] == record["images"] else f" ({sides['images']} images)"
    return percent(sides["majority"]["attacked"]) + fewer


def table() -> list[str]:
    """The table's lines."""
    lines = ["| " + " | ".join(_COLUMNS) + " |", "|" + " --- |" * len(_COLUMNS)]
    for title, name, radii, published in ROWS:
        records = records_of(name)
        if not records:
            continue
        (first, *seeds), everywhere = groups(records)
        unit = _unit(first)
        for number, radius in enumerate(radii):
            epsilon = radius / unit
            point = at(first["curve"], epsilon)
            assert point is not None, f"{name}: no radius {radius}"
            cells = (
                "" if number else title,
                f"{radius:g}/255" if unit != 1 and radius else f"{radius:g}",
                percent(point, interval=True),
                percent(point["single_draw"]),
                _of_others([("", one) for one in seeds], epsilon, first["images"]),
                _of_others(
                    [(f"sigma {s}", one) for s, one in everywhere], epsilon, first["images"]
                ),
                _attacked(first, epsilon),
                published.get(radius, ""),
            )
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def _unit(record: dict) -> int:
    """By what a radius is multiplied to be said."""
    return 255 if record["settings"]["norm"] == "linf" else 1


def lines_of(records: dict[str, list[dict]]) -> dict:
    """The lines of a data set's picture: what is proved, and what attacks left."""
    learned, everywhere = groups(records)
    first, unit = learned[0], _unit(learned[0])
    name = "learned noise" if "learned" in records else "proved"
    solid = {name: first, **{f"{sigma} everywhere": one for sigma, one in everywhere}}

    def line(points: list[dict]) -> list[dict]:
        kept = ("value", "low", "high")
        return [{"radius": unit * p["epsilon"], **{k: p[k] for k in kept}} for p in points]

    def titled(name: str, images: int) -> str:
        return name if images == first["images"] else f"{name} ({images} images)"

    dashed: dict[str, list[dict]] = {}
    for sides in sides_in(first):
        point = {"epsilon": sides["epsilon"], **sides["majority"]["attacked"]}
        dashed.setdefault(titled("attacked", sides["images"]), []).extend(line([point]))
    return {
        "lines": {titled(k, one["images"]): line(one["curve"]) for k, one in solid.items()},
        "dashed": dashed,
        "label": "radius (l_inf, of 255)" if unit == 255 else "radius (l_2)",
        "mark": unit * first["certified"]["epsilon"],
    }


def digest(drawn: dict) -> str:
    """By which a picture is known to be that of its records."""
    return hashlib.sha256(json.dumps(drawn, sort_keys=True).encode()).hexdigest()


def draw(name: str) -> None:
    """Writes the picture of a file of records."""
    drawn = lines_of(records_of(name))
    picture = Image.open(io.BytesIO(
        accuracy_curves(drawn["lines"], "radius", drawn["label"], drawn["mark"], drawn["dashed"])
    ))  # fmt: skip
    told = PngImagePlugin.PngInfo()
    told.add_text("records", digest(drawn))
    picture.save(ROOT / "docs" / f"{name}.png", pnginfo=told, optimize=True)


def record_of(run: Path) -> dict:
    """What `docs/results` keeps of a run and its certificate."""
    trained = json.loads((run / "run.json").read_text("utf-8"))
    proved = json.loads((run / "certificate" / RESULTS).read_text("utf-8"))
    about = {name: trained[name] for name in ("seed", "training_seconds", "kept")}
    about["training"] = trained["settings"]
    return about | {name: proved[name] for name in _OF_CERTIFICATE}


def main() -> None:
    """Prints a record, or the table, whose pictures it writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", type=Path, help="folder of a run with a certificate")
    asked = parser.parse_args()
    if asked.record is not None:
        print(json.dumps(record_of(asked.record), indent=1))
        return
    print("\n".join(table()))
    for _, name, _, _ in ROWS:
        if records_of(name):
            draw(name)


if __name__ == "__main__":
    main()
