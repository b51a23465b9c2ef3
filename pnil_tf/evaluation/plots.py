"""The report's pictures, as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pnil_tf.drawing import own_style

_COLOUR = "#2b5c8a"
_WORST_COLOUR = "#a33b3b"
_COLOURS = (_COLOUR, "#c77d1e", "#3a7d44", "#7b4b94")


@own_style()
def accuracy_bars(rows: list[tuple[str, dict[str, Any]]], guessing: float) -> bytes:
    """Horizontal bars of accuracy with their intervals.

    Args:
        rows: `(name, {value, low, high})`, from top to bottom.
        guessing: Accuracy of always answering the most frequent class, drawn as a line.
    """
    figure = Figure(figsize=(6.4, 0.6 + 0.42 * len(rows)), layout="constrained")
    draw_accuracy_bars(figure.subplots(), rows, guessing)
    return _png(figure)


def draw_accuracy_bars(axes: Axes, rows: list[tuple[str, dict[str, Any]]], guessing: float) -> None:
    """Draws the bars of `accuracy_bars`."""
    places = np.arange(len(rows))[::-1]
    for place, (name, row) in zip(places, rows, strict=True):
        colour = _WORST_COLOUR if name in ("effective robustness", "worst case") else _COLOUR
        axes.barh(place, row["value"], color=colour, height=0.62)
        axes.plot([row["low"], row["high"]], [place, place], color="black", linewidth=1.4)
        axes.text(1.02, place, f"{row['value']:.1%}", va="center")
    axes.axvline(guessing, color="grey", linestyle=":", linewidth=1)
    axes.set(xlim=(0, 1), yticks=places, yticklabels=[name for name, _ in rows], xlabel="accuracy")


def accuracy_curve(
    points: list[dict[str, Any]], x: str, label: str, mark: float | None, log: bool = False
) -> bytes:
    """Accuracy with its interval over some quantity.

    Args:
        points: `{x, value, low, high}`, `x` increasing.
        x: The quantity's key in the points.
        label: The quantity's name.
        mark: Value of the quantity at which to draw a line.
        log: Whether the quantity's axis is logarithmic.
    """
    return accuracy_curves({"": points}, x, label, mark, log=log)


@own_style()
def accuracy_curves(
    lines: Mapping[str, list[dict[str, Any]]],
    x: str,
    label: str,
    mark: float | None = None,
    dashed: Mapping[str, list[dict[str, Any]]] | None = None,
    log: bool = False,
) -> bytes:
    """Several lines of accuracy with their intervals over some quantity.

    Args:
        lines: For the name of each line its points, as for `accuracy_curve`.
        x: As for `accuracy_curve`, and so for the others.
        label: The quantity's name.
        mark: Value of the quantity at which to draw a line.
        dashed: Further lines like them, told from them by their strokes.
        log: Whether the quantity's axis is logarithmic.
    """
    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    axes = figure.subplots()
    solid, lines = len(lines), {**lines, **(dashed or {})}
    for number, (name, points) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        xs = [point[x] for point in points]
        low, high = ([point[end] for point in points] for end in ("low", "high"))
        axes.fill_between(xs, low, high, color=colour, alpha=0.2, linewidth=0)
        values = [point["value"] for point in points]
        stroke = "solid" if number < solid else "dashed"
        axes.plot(xs, values, linestyle=stroke, marker="o", markersize=4, color=colour, label=name)
    if mark is not None:
        axes.axvline(mark, color="grey", linestyle=":", linewidth=1)
    if log:
        ticks = sorted({point[x] for points in lines.values() for point in points})
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{value:g}" for value in ticks])
        axes.minorticks_off()
    axes.set(xlabel=label, ylabel="accuracy", ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)
    if len(lines) > 1:
        axes.legend(frameon=False, fontsize="small")
    return _png(figure)


@own_style()
def image_grid(
    images: np.ndarray, adversarial: np.ndarray, captions: list[tuple[str, str]], width: float
) -> bytes:
    """Rows of unperturbed image, perturbation and adversarial image.

    Args:
        images: float32 `(n, height, width, 1 or 3 channels)` in [0, 1]; others show channel 0.
        adversarial: Like `images`. The perturbation is scaled to its largest pixel.
        captions: For each image what the model says of the image and of the adversarial one.
        width: Of the pixel range in which the scale of the perturbation is said, as 255.
    """
    count = len(images)
    figure = Figure(figsize=(1.5 * count, 4.9), layout="constrained")
    rows = figure.subplots(3, count, squeeze=False)
    change = adversarial - images
    largest = max(float(np.abs(change).max()), 1e-9)
    scale = 2 * largest
    for i in range(count):
        for axes, picture in zip(
            rows[:, i], (images[i], change[i] / scale + 0.5, adversarial[i]), strict=True
        ):
            shown = picture if picture.shape[-1] == 3 else picture[..., 0]
            axes.imshow(np.clip(shown, 0, 1), cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
        for row, caption in zip((0, 2), captions[i], strict=True):
            # A class's name is what it is: no formula, whatever dollars are in it.
            rows[row, i].set_title(caption, fontsize=8, parse_math=False)
    names = ("image", f"perturbation\n(white: +{largest * width:.3g} of {width:g})", "adversarial")
    for axes, name in zip(rows[:, 0], names, strict=True):
        axes.set_ylabel(name, fontsize=8)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    return stream.getvalue()
