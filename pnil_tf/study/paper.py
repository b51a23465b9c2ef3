"""The paper's own figures (arXiv 2002.10097, table 1 and section 5), in percent."""

from __future__ import annotations

_COLUMNS = ("clean", "spsa", "pgd", "min")

_TABLE = {
    "cifar10": {
        ("rfgsm", False): "75±0 58±3 52±0 52±0",
        ("nfgsm", False): "77±1 53±3 50±0 50±0",
        ("rfgsm", True): "68±0 63±1 57±0 57±0",
        ("nfgsm", True): "66±0 65±2 57±0 57±0",
    },
    "fashion_mnist": {
        ("rfgsm", False): "83±1 2±1 58±9 2±1",
        ("nfgsm", False): "85±0 3±2 64±8 3±2",
        ("rfgsm", True): "80±0 74±1 70±0 70±0",
        ("nfgsm", True): "82±0 78±1 67±0 67±0",
    },
    "mnist": {
        ("rfgsm", False): "98±0 46±28 61±25 46±28",
        ("nfgsm", False): "98±0 23±36 54±11 23±36",
        ("rfgsm", True): "98±0 79±1 55±9 55±9",
        ("nfgsm", True): "98±0 77±1 60±4 60±4",
    },
}

MADRY = {("nfgsm", True): 59, ("pgd-7", False): 46}
"""Accuracy under PGD on CIFAR-10's predefined split: the paper's classifier, and Madry's."""


def published(dataset: str, attack: str, pnil: bool) -> dict[str, tuple[int, int]] | None:
    """Returns the table's `(mean, standard deviation)` by column, or `None` where it has none."""
    text = _TABLE.get(dataset, {}).get((attack, pnil))
    if text is None:
        return None
    mean_and_sd = [entry.split("±") for entry in text.split()]
    figures = [(int(mean), int(deviation)) for mean, deviation in mean_and_sd]
    return dict(zip(_COLUMNS, figures, strict=True))
