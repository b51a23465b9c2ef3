"""What `bin/export.py` calls: from the path of a model to files for a server."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import keras

from pnil_tf.errors import UserError
from pnil_tf.runs.load import load_model, read_run
from pnil_tf.runs.record import record_of
from pnil_tf.serving import onnx_model, saved_model
from pnil_tf.serving.onnx_model import export_onnx
from pnil_tf.serving.saved_model import check_output, export_saved_model

FORMATS: dict[str, tuple[Callable[..., Path], str]] = {
    "saved_model": (export_saved_model, saved_model.MARKER),
    "onnx": (export_onnx, onnx_model.MODEL),
    "onnx_noise_input": (
        functools.partial(export_onnx, noise_as_input=True),
        onnx_model.MODEL,
    ),
}
"""For each format what writes it, and the file by which an export is known."""


def export_saved(
    model: str,
    output: str,
    overwrite: bool = False,
    format: str = "saved_model",
    pixel_range: tuple[float, float] | None = None,
) -> Path:
    """Exports a saved classifier, with what its run knows of it.

    Args:
        model: A run's folder or a `.keras` file.
        output: The folder to write.
        overwrite: Whether an export there is replaced.
        format: One of `FORMATS`.
        pixel_range: `(low, high)` of the pixels that the model takes; by default what its run
            says, or else as for `export_saved_model`.

    Returns:
        The folder written.

    Raises:
        UserError: If there is no such model, it cannot be exported, or the output is taken.
        RunFailedError: If the export does not answer as the model does.
    """
    export, marker = FORMATS[format]
    check_output(Path(output), overwrite, marker)
    run = read_run(model)
    loaded = load_model(model, run)
    if not isinstance(loaded.model, keras.Model):
        raise UserError(
            f"{model} is a {loaded.kind}, which is exported already. Give a run's folder or a "
            ".keras file."
        )
    record = record_of(model, loaded.file, run)
    return export(
        loaded.model,
        output,
        overwrite=overwrite,
        record=record,
        pixel_range=loaded.pixel_range if pixel_range is None else pixel_range,
    )
