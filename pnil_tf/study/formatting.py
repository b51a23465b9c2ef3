"""How cells and figures are written in a report."""

from __future__ import annotations

import datetime
from typing import Any

from pnil_tf.contract.pixel_range import share_text

_DATASETS = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}


def dataset(name: str) -> str:
    """Writes the name of a data set as it is usually said."""
    return _DATASETS.get(name, name)


def model(attack: str, pnil: bool) -> str:
    """Names a way to train."""
    return f"{attack.upper()} {'with' if pnil else 'without'} PNIL"


def images(record: dict[str, Any]) -> str:
    """Names the images of a cell, by the label that they came with if that is another one.

    Args:
        record: The cell's, of `pnil_tf.study.results.merged`.
    """
    note = record["training"]["data"]["note"] if record["training"] else None
    return note or dataset(record["cell"]["dataset"])


def setting(record: dict[str, Any]) -> str:
    """Names the images of a cell and its radius."""
    return f"{images(record)}, eps {share_text(record['cell']['epsilon'])}"


def percent(summary: tuple[float, float | None] | None) -> str:
    """Writes mean and standard deviation, given in [0, 1], in percent."""
    if summary is None:
        return ""
    mean, deviation = summary
    scatter = "" if deviation is None else f" ± {100 * deviation:.1f}"
    return f"{100 * mean:.1f}{scatter}"


def duration(seconds: float) -> str:
    """Writes a time in hours, minutes and seconds, all of them whatever it is."""
    return str(datetime.timedelta(seconds=round(seconds)))


def p_value(p: float | None) -> str:
    """Writes a p-value."""
    if p is None:
        return "none"
    return "< 0.0001" if p < 0.0001 else f"{p:.2g}"
