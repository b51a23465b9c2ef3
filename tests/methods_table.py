"""The README's table of methods, made from the records in `docs/results`.

`python tests/methods_table.py` prints it.
"""

import json
import re
import statistics
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_RESULTS = ROOT / "docs" / "results"


# Data set and radius, and the trainings on it: the name of a flagfile, or of records whose flags
# stand on the page, and then what it is called.
ROWS = [
    ("MNIST 0.3", "mnist_literature_nfgsm", None),
    ("", "mnist_literature_nfgsm_pnil", None),
    ("", "mnist_literature_rfgsm", None),
    ("", "mnist_literature_rfgsm_pnil", None),
    ("", "mnist_fast", None),
    ("", "mnist_best", None),
    ("", "methods_mnist_pgd7", "PGD-7"),
    ("Fashion-MNIST 0.1", "methods_fashion_mnist_plain_nfgsm", "NFGSM"),
    ("", "methods_fashion_mnist_plain_rfgsm", "RFGSM"),
    ("", "fashion_mnist_fast", None),
    ("", "fashion_mnist_best", None),
    ("", "methods_fashion_mnist_pgd7", "PGD-7"),
    ("CIFAR-10 8/255", "methods_cifar10_rfgsm", "RFGSM"),
    ("", "cifar10_fast", None),
    ("", "cifar10_best", None),
    ("", "methods_cifar10_pgd7", "PGD-7, width 32"),
]
# Recipes whose records are called after what was tried.
_OTHER_NAMES = {"cifar10_fast": "methods_cifar10_n-fgsm_200"}
_COLUMNS = ("data, eps", "flagfile or training", "seeds", "clean", "PGD-50", "`auto`", "minutes")


def records_of(name: str) -> list[dict]:
    """The records of a training, of its one run or of one for each seed."""
    if name.endswith(("_fast", "_best")):
        name = _OTHER_NAMES.get(name, f"methods_{name}")
    files = re.compile(rf"{name}(_seed\d+)?\.json")
    found = sorted(file for file in _RESULTS.glob("*.json") if files.fullmatch(file.name))
    return [json.loads(file.read_text("utf-8")) for file in found]


def figures_of(record: dict) -> dict[str, float]:
    """Percent of clean images, under the paper's PGD and `auto`, and minutes; what is known."""
    said = record.get("result") or {}
    found = {
        "clean": said.get("clean_accuracy") or record.get("clean"),
        "pgd": said.get("pgd_accuracy") or record.get("attacks", {}).get("pgd"),
        "auto": record.get("auto"),
    }
    figures = {name: 100 * figure["value"] for name, figure in found.items() if figure}
    seconds = record.get("wall_seconds_with_start") or record.get("training_seconds")
    where = "minutes on a GPU" if "NVIDIA" in record.get("trained_on", "") else "minutes"
    return figures | {where: seconds / 60}


def written(values: list[float]) -> str:
    """A mean with its range, or the one value that there is."""
    if not values:
        return "-"
    mean = f"{statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.1f}-{max(values):.1f})"


def table() -> list[str]:
    """The table's lines."""
    lines = ["| " + " | ".join(_COLUMNS) + " |", "|" + " --- |" * len(_COLUMNS)]
    for data, name, training in ROWS:
        figures = [figures_of(record) for record in records_of(name)]
        clean, pgd, auto, minutes, on_gpu = (
            [each[figure] for each in figures if figure in each]
            for figure in ("clean", "pgd", "auto", "minutes", "minutes on a GPU")
        )
        # Of seeds that were trained here and there, those of the place where most were.
        took = f"{statistics.median(max(minutes, on_gpu, key=len)):.0f}"
        cells = [
            *(data, training or f"`{name}`", str(len(figures)), f"{statistics.mean(clean):.1f}"),
            *(written(pgd), written(auto), f"{took}, GPU" if len(on_gpu) > len(minutes) else took),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    print("\n".join(table()))
