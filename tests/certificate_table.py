"""The tables and the pictures of docs/certificate.md, made from the records in `docs/results`.

`python tests/certificate_table.py` prints the tables and writes the pictures.
`python tests/certificate_table.py --record=RUN` prints a run's record, to go into one of the files
`docs/results/certificate_*.json`: below `learned`, `learned_penalty_PENALTY` where that is not the
recipe's, or `same_everywhere_SIGMA`.
"""

import argparse
import hashlib
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from pnil_tf.certificate.output import ARRAYS, RESULTS, sides_in
from pnil_tf.evaluation.plots import accuracy_curves
from pnil_tf.evaluation.statistics import Interval, paired_difference, wilson

ROOT = Path(__file__).resolve().parent.parent
_RESULTS = ROOT / "docs" / "results"
_EVERYWHERE = "same_everywhere_"
_PENALTY = "learned_penalty_"
_COMPARED = 500  # images of every certificate that the comparison is about

# Title, file of records, radii in 255ths or (in l_2) as they are, and what others published.
ROWS = [
    ("MNIST", "certificate_mnist", (0, 2, 4, 8, 12, 16), {8: "60 ± 4%"}),
    ("Fashion-MNIST", "certificate_fashion_mnist", (0, 2, 4, 8), {4: "70 ± 0%"}),
    ("CIFAR-10", "certificate_cifar10", (0, 0.25, 0.5, 0.75), {}),
]
# Certificates of so many draws that all of them reach beyond the radii of the table.
MANY_DRAWS = ("certificate_fashion_mnist_100000", (0, 2, 4, 6, 8))
_COLUMNS = (
    "data",
    "radius",
    "certified, at least",
    "single draws, at least",
    "other seeds",
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


def _of_others(others: list[dict], epsilon: float, images: int) -> str:
    cells = []
    for record in others:
        point = at(record["curve"], epsilon)
        if point is not None:
            fewer = "" if record["images"] == images else f" ({record['images']} images)"
            cells.append(percent(point) + fewer)
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
        (first, *seeds), _ = groups(records)
        unit = _unit(first)
        for number, radius in enumerate(radii):
            epsilon = radius / unit
            point = at(first["curve"], epsilon)
            assert point is not None, f"{name}: no radius {radius}"
            cells = (
                "" if number else title,
                _said(radius, unit),
                percent(point, interval=True),
                percent(point["single_draw"]),
                _of_others(seeds, epsilon, first["images"]),
                _attacked(first, epsilon),
                published.get(radius, ""),
            )
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def comparisons() -> dict[str, list[str]]:
    """By data set the lines of its table of learned noise beside the same noise everywhere."""
    compared = {}
    for title, name, radii, _ in ROWS:
        records = records_of(name)
        kinds = [
            *(kind for kind in records if kind == "learned"),
            *(kind for kind in records if kind.startswith(_PENALTY)),
            *(kind for kind in records if kind.startswith(_EVERYWHERE)),
        ]
        if len(kinds) > 1:
            compared[title] = _comparison({_titled(k): records[k] for k in kinds}, radii)
    return compared


def _comparison(columns: dict[str, list[dict]], radii: tuple[float, ...]) -> list[str]:
    """Means and seeds, all on the same images, the first that every certificate has."""
    unit = _unit(next(iter(columns.values()))[0])
    for seeds in columns.values():
        for one in seeds:
            assert "first_500" in one or one["images"] == _COMPARED, "they share the first images"
    lines = ["| radius | " + " | ".join(columns) + " |", "|" + " --- |" * (1 + len(columns))]
    for radius in radii:
        cells = []
        for seeds in columns.values():
            points = [at(one.get("first_500", one)["curve"], radius / unit) for one in seeds]
            shares = [100 * point["value"] for point in points if point is not None]
            assert shares, f"no radius {radius}"
            each = ", ".join(f"{share:.1f}" for share in shares)
            mean = f"**{np.mean(shares):.1f}%**"
            cells.append(mean + (f" ({each})" if len(shares) > 1 else ""))
        lines.append(f"| {_said(radius, unit)} | " + " | ".join(cells) + " |")
    return lines


def many_draws() -> list[str]:
    """The lines of the table of certificates with many draws, each of one seed.

    Beside them stand the paired differences of learned noise from that noise everywhere which
    proves most at the radius.
    """
    name, radii = MANY_DRAWS
    records = {kind: record for kind, (record,) in records_of(name).items()}
    if not records:
        return []
    learned = [kind for kind in records if not kind.startswith(_EVERYWHERE)]
    columns = ["radius", *map(_titled, records), *(f"{_titled(k)}, ahead by" for k in learned)]
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for radius in radii:
        epsilon = radius / 255
        proved = {kind: _proved(record, epsilon) for kind, record in records.items()}
        best = max(
            (proved[kind] for kind in records if kind.startswith(_EVERYWHERE)),
            key=lambda shares: shares.mean(),
        )
        cells = [f"{shares.mean():.1%}" for shares in proved.values()]
        cells += [_points(paired_difference(proved[kind], best)) for kind in learned]
        lines.append(f"| {_said(radius, 255)} | " + " | ".join(cells) + " |")
    return lines


def _titled(kind: str) -> str:
    """What a column calls a kind of record."""
    if kind.startswith(_EVERYWHERE):
        return f"{kind.removeprefix(_EVERYWHERE)} everywhere"
    return f"penalty {kind.removeprefix(_PENALTY)}" if kind.startswith(_PENALTY) else kind


def _proved(record: dict, epsilon: float) -> np.ndarray:
    """Of each image whether it is proved right at a radius (at 0: answered rightly), 0.0 or 1.0."""
    radius = np.asarray(record["radius_of_each"])
    return np.asarray((radius > epsilon) | ((epsilon == 0) & (radius >= 0)), np.float64)


def _points(difference: Interval) -> str:
    value, low, high = (100 * one for one in (difference.value, difference.low, difference.high))
    return f"{value:+.1f} ({low:.1f} to {high:.1f})"


def _said(radius: float, unit: int) -> str:
    return f"{radius:g}/255" if unit != 1 and radius else f"{radius:g}"


def _unit(record: dict) -> int:
    """By what a radius is multiplied to be said."""
    return 255 if record["settings"]["norm"] == "linf" else 1


def lines_of(records: dict[str, list[dict]]) -> dict:
    """The lines of a data set's picture: what is proved, and what attacks left."""
    learned, everywhere = groups(records)
    first, unit = learned[0], _unit(learned[0])
    name = "learned noise" if "learned" in records else "proved"
    solid = {name: first}
    for sigma, one in everywhere:
        solid.setdefault(f"{sigma} everywhere", one)  # of each noise the first seed

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
    about |= {name: proved[name] for name in _OF_CERTIFICATE}
    with np.load(run / "certificate" / ARRAYS) as kept:
        radius = kept[f"radius_{proved['settings']['norm']}"][:_COMPARED]
        right = kept["answer"][:_COMPARED] == kept["labels"][:_COMPARED]
    # Of the first images, rounded down; -1 where the answer is wrong, or there is none.
    rounded = np.floor(np.asarray(radius, np.float64) * 1e9) / 1e9
    about["radius_of_each"] = np.where(right, rounded, -1.0).tolist()
    if proved["images"] > _COMPARED:
        about["first_500"] = {
            "curve": [
                {"epsilon": epsilon, **wilson(_proved(about, epsilon)).to_json()}
                for epsilon in (point["epsilon"] for point in proved["curve"])
            ]
        }
    return about


def main() -> None:
    """Prints a record, or the table, whose pictures it writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", type=Path, help="folder of a run with a certificate")
    asked = parser.parse_args()
    if asked.record is not None:
        print(json.dumps(record_of(asked.record), indent=1))
        return
    print("\n".join(table()))
    for title, lines in {**comparisons(), "Many draws": many_draws()}.items():
        print("\n".join(["", title, "", *lines]))
    for _, name, _, _ in ROWS:
        if records_of(name):
            draw(name)


if __name__ == "__main__":
    main()
