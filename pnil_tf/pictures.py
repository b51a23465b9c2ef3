"""Pictures of a run: learning curves, and what a `PNILLayer` has learned."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from pnil_tf.drawing import own_style
from pnil_tf.errors import UserError
from pnil_tf.files import replacing
from pnil_tf.layers import PNILLayer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS = (("loss", "loss"), ("accuracy", "accuracy"), ("learning_rate", "learning rate"))
_MAX_IMAGES = 6


@own_style()
def learning_curves(history_rows: list[dict[str, float]], path: str | os.PathLike[str]) -> None:
    """Draws losses, accuracies and the learning rate over the epochs, as a PNG.

    Args:
        history_rows: One dict for each epoch. Keys that end in `loss`, `accuracy` or
            `learning_rate` are drawn, one line each; `epoch` numbers the epochs (else they
            count from 1). A row may lack keys; a value that is not finite leaves a gap.
        path: The file to write.

    Raises:
        UserError: If there is no row, or nothing to draw in them.
    """
    names = list(dict.fromkeys(name for row in history_rows for name in row))
    panels = [
        (title, [name for name in names if name.endswith(ending)]) for ending, title in _PANELS
    ]
    panels = [(title, lines) for title, lines in panels if lines]
    if not panels:
        raise UserError(
            "Learning curves need losses or accuracies of at least one epoch. Received: "
            f"{len(history_rows)} rows with the keys {names}."
        )
    epochs = [row.get("epoch", number) for number, row in enumerate(history_rows, start=1)]
    figure = _figure(5.2 * len(panels), 3.8)
    for axes, (title, lines) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        for line in lines:
            values = [float(row.get(line, math.nan)) for row in history_rows]
            # A marker, since a single epoch is no line.
            axes.plot(epochs, values, marker="o", markersize=3, label=line.replace("_", " "))
        axes.set(xlabel="epoch", title=title)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if title == "accuracy":
            axes.set_ylim(-0.02, 1.02)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if len(lines) > 1:
            axes.legend(frameon=False, fontsize="small")
    _write(figure, path)


def first_pnil(classifier: keras.Model) -> PNILLayer | None:
    """Returns the `PNILLayer` whose input is the classifier's input, or `None`.

    A subclassed model does not say which layer comes first: `None`, as for a model in which
    another layer (a `Rescaling`, say) stands before.
    """
    layers = [
        layer for layer in classifier.layers if not isinstance(layer, keras.layers.InputLayer)
    ]
    inputs = getattr(classifier, "inputs", None)
    if not layers or not inputs or len(inputs) != 1:
        return None
    for layer in layers:
        if isinstance(layer, PNILLayer) and layer.input is inputs[0]:
            return layer
    # A functional model that only wraps another one, as add_pnil's or a preprocessing model.
    first = layers[0]
    return first_pnil(first) if isinstance(first, keras.Model) and len(layers) == 1 else None


@own_style()
def pnil_maps(classifier: keras.Model, x: Any, path: str | os.PathLike[str]) -> None:
    """Draws a layer's maps as in the paper's figures 1 and 3: `x`, `W`, `B`, `Sigma`, `x'`.

    One row for each image reads as equations 2 and 3 do; a layer that computes its log-variance
    otherwise has no `W` and `B` to show. Maps of colour images are averaged over
    channels. Each column has its own scale; `Sigma` is a log-variance.

    Args:
        classifier: A model whose first layer is a `PNILLayer` (see `first_pnil`).
        x: Images `(n, height, width, channels)` with 1 or 3 channels, in the range the
            classifier takes; the first six are drawn.
        path: The PNG to write.

    Raises:
        UserError: If the first layer is no `PNILLayer`, or `x` are no images.
    """
    layer = first_pnil(classifier)
    if layer is None:
        raise UserError(
            "PNIL's maps are pictures only where its input is the image. Received: "
            f"{classifier.name!r}, whose first layer is no PNILLayer."
        )
    x = np.asarray(x, np.float32)[:_MAX_IMAGES]
    if x.ndim != 4 or not len(x) or x.shape[-1] not in (1, 3):
        raise UserError(
            "PNIL's maps need images (n, height, width, 1 or 3 channels), n >= 1. Received: "
            f"shape {x.shape}."
        )
    log_variance = np.asarray(layer.log_variance(x))
    noisy = np.asarray(layer(x), np.float32)

    rows = len(x)
    every = (rows, *x.shape[1:])
    of_channels = " (mean of channels)" if x.shape[-1] == 3 else ""
    maps, of_sigma = {}, r"$\Sigma(x)$"
    if layer.bias is not None:
        kernel = 0.0 if layer.kernel is None else layer.kernel.numpy()
        maps = {"$W$": kernel, "$B$": layer.bias.numpy()}
        of_sigma = r"$\Sigma = xW + B$"
    maps[of_sigma] = log_variance
    figure = _figure(2.3 * (len(maps) + 2), 2.0 * rows + 0.9)
    images, *columns, noise = figure.subplots(rows, len(maps) + 2, squeeze=False).T
    _draw_images(figure, images, x, "$x$")
    for column, (title, values) in zip(columns, maps.items(), strict=True):
        _draw_maps(figure, column, np.broadcast_to(values, every), title + of_channels)
    _draw_images(figure, noise, noisy, r"$x' = x + \mathcal{N}(0, 1)\, e^{\Sigma / 2}$")
    _write(figure, path)


def _draw_images(figure: Figure, axes: Sequence[Axes], images: np.ndarray, title: str) -> None:
    low, high = float(images.min()), float(images.max())
    if images.shape[-1] == 1:
        _draw(figure, axes, images[..., 0], title, "gray", low, high)
    else:  # matplotlib wants colours in [0, 1]; noise knows no such bounds
        scaled = (images - low) / max(high - low, 1e-12)
        _draw(figure, axes, scaled, f"{title}\nfrom {low:.2g} to {high:.2g}", None, 0.0, 1.0)


def _draw_maps(figure: Figure, axes: Sequence[Axes], maps: np.ndarray, title: str) -> None:
    maps = maps.mean(axis=-1)
    low, high = float(maps.min()), float(maps.max())
    if high - low < 1e-6:  # untrained or shared: a colour scale needs some width
        low, high = low - 0.5, high + 0.5
    _draw(figure, axes, maps, title, "viridis", low, high)


def _draw(
    figure: Figure,
    axes: Sequence[Axes],
    pictures: np.ndarray,
    title: str,
    colours: str | None,
    low: float,
    high: float,
) -> None:
    for one, picture in zip(axes, pictures, strict=True):
        drawn = one.imshow(picture, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
        one.set_axis_off()
    axes[0].set_title(title, fontsize="medium")
    if colours is not None:
        figure.colorbar(drawn, ax=list(axes), location="bottom", shrink=0.85, pad=0.02)


def _figure(width: float, height: float) -> Figure:
    # Slow to import and rarely needed; Figure alone leaves pyplot's global state untouched.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _write(figure: Figure, path: str | os.PathLike[str]) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
