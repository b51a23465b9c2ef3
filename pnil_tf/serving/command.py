"""What `bin/export.py` calls: from the path of a model to files for a server."""

from __future__ import annotations

from pathlib import Path

import keras

from pnil_tf.errors import UserError
from pnil_tf.evaluation.load import load_model
from pnil_tf.serving.record import record_of
from pnil_tf.serving.saved_model import check_output, export_saved_model


def export_saved(model: str, output: str, overwrite: bool = False) -> Path:
    """Exports a saved classifier, with what its run knows of it.

    Args:
        model: A run's folder or a `.keras` file.
        output: The folder to write.
        overwrite: Whether an export there is replaced.

    Returns:
        The folder written.

    Raises:
        UserError: If there is no such model, it cannot be exported, or the output is taken.
        RunFailedError: If the export does not answer as the model does.
    """
    check_output(Path(output), overwrite, "saved_model.pb")
    loaded = load_model(model)
    if not isinstance(loaded.model, keras.Model):
        raise UserError(
            f"A run's folder or a .keras file can be exported. Received: {model}, a "
            f"{loaded.kind}, which is exported already."
        )
    record = record_of(model, loaded.file)
    return export_saved_model(loaded.model, output, overwrite=overwrite, record=record)
