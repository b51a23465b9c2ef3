"""The README's table of methods, made from the records in `docs/results`.

`python tests/methods_table.py` prints it.
"""

import dataclasses
import json
import re
import statistics
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_RESULTS = ROOT / "docs" / "results"


@dataclasses.dataclass(frozen=True)
class Row:
    """One way to train on one data set.

    Args:
        data: Data set and radius.
        training: What is done, in a few words.
        name: Of its flagfile or, if it has none, of its records.
        flags: Where its flags stand, if that is no flagfile of its name.
    """

    data: str
    training: str
    name: str
    flags: str | None = None


ROWS = [
    Row("MNIST 0.3", "NFGSM", "mnist_literature_nfgsm"),
    Row("", "NFGSM with PNIL", "mnist_literature_nfgsm_pnil"),
    Row("", "RFGSM", "mnist_literature_rfgsm"),
    Row("", "RFGSM with PNIL", "mnist_literature_rfgsm_pnil"),
    Row("", "`fast`", "mnist_fast"),
    Row("", "`best`", "mnist_best"),
    Row("Fashion-MNIST 0.1", "RFGSM", "fashion_mnist_plain_rfgsm", "methods.md#fashion-mnist"),
    Row("", "`best`", "fashion_mnist_best"),
    Row("CIFAR-10 8/255", "RFGSM", "cifar10_rfgsm", "methods.md#cifar-10"),
    Row("", "`best`", "cifar10_best"),
]


def records_of(name: str) -> list[dict]:
    """The records of a training, of its one run or of one for each seed."""
    files = re.compile(rf"(methods_)?{name}(_seed\d+)?\.json")
    found = sorted(file for file in _RESULTS.glob("*.json") if files.fullmatch(file.name))
    return [json.loads(file.read_text("utf-8")) for file in found]


def figures_of(record: dict) -> dict[str, float]:
    """Percent of clean images, under the paper's PGD and under `auto`, and minutes, where known."""
    said = record.get("result") or {}
    found = {
        "clean": said.get("clean_accuracy") or record.get("clean"),
        "pgd": said.get("pgd_accuracy") or record.get("attacks", {}).get("pgd"),
        "auto": record.get("auto"),
    }
    figures = {name: 100 * figure["value"] for name, figure in found.items() if figure}
    seconds = record.get("wall_seconds_with_start") or record.get("training_seconds")
    return figures | ({"minutes": seconds / 60} if seconds else {})


def written(values: list[float]) -> str:
    """A mean with its range, or the one value that there is."""
    if not values:
        return "-"
    mean = f"{statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.1f} to {max(values):.1f})"


def table() -> list[str]:
    """The table's lines."""
    lines = ["| data, eps | training | seeds | clean | PGD-50 | `auto` | minutes | flags |"]
    lines.append("|" + " --- |" * 8)
    for row in ROWS:
        figures = [figures_of(record) for record in records_of(row.name)]
        columns = {
            name: written([each[name] for each in figures if name in each])
            for name in ("clean", "pgd", "auto")
        }
        minutes = statistics.median(each["minutes"] for each in figures)
        where = f"[there](docs/{row.flags})" if row.flags else f"`{row.name}`"
        cells = [row.data, row.training, str(len(figures)), *columns.values(), f"{minutes:.0f}"]
        lines.append("| " + " | ".join([*cells, where]) + " |")
    return lines


if __name__ == "__main__":
    print("\n".join(table()))
