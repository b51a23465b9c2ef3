"""Models from the disk: a run's folder, a `.keras` file or a SavedModel."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from pnil_tf import layers  # registers the layer that saved models refer to
from pnil_tf.checksums import compare_checksums
from pnil_tf.contract.outputs import LOGIT, LOGITS
from pnil_tf.contract.pixel_range import UNIT, PixelRange
from pnil_tf.errors import UserError, reason
from pnil_tf.evaluation.transfer import Source
from pnil_tf.files import read_json, refuse_pipes, sha256_of, understood
from pnil_tf.runs.graph_safety import refused_operations
from pnil_tf.runs.keras_archive import check_archive, compiled_loss
from pnil_tf.runs.names import CLASSIFIER, RUN
from pnil_tf.serving.record import PREPROCESSING

__all__ = ["Loaded", "layers", "load_model", "load_source", "read_run"]


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A model and where it came from.

    Args:
        model: A Keras model or a callable from images to outputs.
        kind: What it was on the disk, one phrase.
        file: What its fingerprint is taken of: a file, or the folder of a SavedModel.
        pixel_range: The pixels that it takes, where something beside it says so.
        outputs: What it answers, one of `OUTPUT_KINDS`, where the name of its output says so.
    """

    model: Any
    kind: str
    file: Path
    pixel_range: PixelRange | None = None
    outputs: str | None = None


def load_model(path: str | Path, run: Mapping[str, Any] | None = None) -> Loaded:
    """Loads a classifier without running code that the file brings along.

    Args:
        path: A run's folder, a `.keras` file or a SavedModel folder.
        run: What `read_run` says of it, if it was asked before.

    Raises:
        UserError: If there is no model at `path`, or it is damaged or unsafe.
    """
    refuse_no_model(path)
    path = Path(path)
    if (path / CLASSIFIER).is_file():
        run = read_run(path) if run is None else run
        _compare_checksum(path, run)
        with understood(path / RUN):
            pixel_range = _range_of_run(run)
        loaded = _load_keras(path / CLASSIFIER)
        return dataclasses.replace(loaded, kind="training run", pixel_range=pixel_range)
    if path.is_dir():
        refuse_pipes(path, "Remove it, or export the model again.")
        variables = [file for file in path.glob("variables/*") if file.is_file()]
        compare_checksums(
            path, ["saved_model.pb", *(f"variables/{file.name}" for file in variables)]
        )
        return _load_saved_model(path)
    return _load_keras(path)


def load_source(path: str | Path) -> Source:
    """Loads a classifier, as `load_model` does, to transfer adversarial images from it.

    Args:
        path: A run's folder, a `.keras` file or a SavedModel folder.

    Raises:
        UserError: As for `load_model`.
    """
    loaded = load_model(path)
    identity = sha256_of(loaded.file)
    return Source(loaded.model, loaded.pixel_range, loaded.outputs, Path(path), identity)


def refuse_no_model(path: str | Path) -> None:
    """Refuses a path at which there is nothing that `load_model` could try to load.

    Raises:
        UserError: If so.
    """
    path = Path(path)
    if path.is_dir():
        if not ((path / CLASSIFIER).is_file() or tf.saved_model.contains_saved_model(str(path))):
            raise UserError(
                f"{path} holds no model: neither a {CLASSIFIER} (is the training finished?) nor a "
                "saved_model.pb."
            )
    elif not path.exists():
        raise UserError(f"There is no model at {path}. Check the path, or train one first.")
    elif not (path.is_file() and path.suffix == ".keras"):
        raise UserError(
            f"{path} is not a model. Give a run's folder, a .keras file or a SavedModel folder."
        )


def read_run(path: str | Path) -> dict[str, Any]:
    """Returns what the run's folder at `path` says about its training; empty for other paths.

    Raises:
        UserError: If the run's description is damaged.
    """
    file = Path(path) / RUN
    return read_json(file) if file.is_file() else {}


def _range_of_run(run: Mapping[str, Any]) -> PixelRange:
    # Before there was a choice, every run was trained on pixels in [0, 1].
    model = (run.get("settings") or {}).get("model") or {}
    return PixelRange.of(model.get("pixel_range", UNIT))


def _range_of_export(folder: Path) -> PixelRange | None:
    """The pixels that an export of ours takes; a SavedModel of others says nothing."""
    file = folder / "assets" / PREPROCESSING
    if not file.is_file():
        return None
    with understood(file):
        said = read_json(file).get("pixel_range")
        return None if said is None else PixelRange.of(said)


def _compare_checksum(folder: Path, run: Mapping[str, Any]) -> None:
    if not (folder / RUN).is_file():
        raise UserError(
            f"{folder} has a {CLASSIFIER} but no {RUN} that says what it is. To use the file all "
            f"the same, name it: {folder / CLASSIFIER}."
        )
    with understood(folder / RUN):
        stated = (run.get("kept") or {}).get("sha256")
    found = sha256_of(folder / CLASSIFIER)
    if stated not in (None, found):
        raise UserError(
            f"{folder / CLASSIFIER} was damaged or replaced since the training: its sha256 is "
            f"{found}, where {RUN} states {stated}. Train again, or name the file itself if the "
            "change is meant."
        )


def _load_keras(file: Path) -> Loaded:
    try:
        check_archive(file)
        model = keras.saving.load_model(file, compile=False, safe_mode=True)
        loss = compiled_loss(file)
        if loss is not None and vars(model).get("loss") is None:
            model.loss = loss  # it tells what the outputs were trained to be
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{file} cannot be loaded as a Keras model: {reason(error).rstrip('.')}. If it holds "
            "layers of your own, load it in Python, where they are imported, and hand the model to "
            "pnil_tf.evaluate, certify or export_saved_model."
        ) from error
    return Loaded(model, "Keras file", file)


def _load_saved_model(folder: Path) -> Loaded:
    try:
        unsafe = refused_operations(str(folder))
        loaded = None if unsafe else tf.saved_model.load(str(folder))
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{folder} cannot be loaded as a SavedModel ({reason}).") from error
    if unsafe:
        raise UserError(
            f"The SavedModel {folder} was not loaded: it holds the operation"
            f"{'' if len(unsafe) == 1 else 's'} {', '.join(unsafe)[:300]}, which may reach files, "
            "the network or other processes. Export it again with TensorFlow 2 and without; or, "
            "if you trust it, load it yourself and hand the signature to pnil_tf.evaluate."
        )
    signature = getattr(loaded, "signatures", {}).get("serving_default")
    if signature is not None:
        key = _output(folder, signature.structured_outputs)
        call: Callable[[Any], Any] = _from_signature(folder, loaded, signature, key)
        kind = _said_by(key, signature.structured_outputs[key].shape)
    elif callable(loaded):
        call, kind = loaded, None
    else:
        raise UserError(
            f"The SavedModel {folder} has neither a 'serving_default' signature nor a callable. "
            "Export it with bin/export.py or Keras' model.export()."
        )
    return Loaded(call, "SavedModel", folder, _range_of_export(folder), kind)


def _from_signature(folder: Path, loaded: Any, signature: Any, key: str) -> Callable[[Any], Any]:
    inputs = signature.structured_input_signature[1]
    images = [name for name, spec in inputs.items() if spec.dtype.is_floating]
    if len(inputs) != 1 or len(images) != 1:
        raise UserError(
            f"The signature 'serving_default' of {folder} must take one batch of images. "
            f"Received: inputs {', '.join(sorted(inputs)) or 'none'}."
        )
    (name,), dtype = images, inputs[images[0]].dtype

    def call(x: Any) -> Any:
        return signature(**{name: tf.cast(x, dtype)})[key]

    call.loaded = loaded  # type: ignore[attr-defined]  # a dropped SavedModel loses its variables
    return call


def _output(folder: Path, outputs: dict[str, Any]) -> str:
    """The output to attack: logits before probabilities, and the only matrix otherwise."""
    for name in ("logits", "probabilities"):
        if name in outputs:
            return name
    matrices = [
        name
        for name, spec in outputs.items()
        if spec.dtype.is_floating and spec.shape.rank in (None, 2)
    ]
    if len(matrices) != 1:
        raise UserError(
            f"The signature 'serving_default' of {folder} must have an output named 'logits' or "
            f"'probabilities'. Received: {', '.join(sorted(outputs)) or 'none'}."
        )
    return matrices[0]


def _said_by(name: str, shape: tf.TensorShape) -> str | None:
    """What an output of this name and shape is, if that tells."""
    if name != "logits" or not shape.rank or shape[-1] is None:
        return None
    return LOGIT if shape[-1] == 1 else LOGITS
