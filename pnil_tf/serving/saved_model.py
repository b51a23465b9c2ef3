"""Classifiers as SavedModels that TensorFlow alone can serve."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.certificate.front import FrontNoise
from pnil_tf.checksums import CHECKSUMS, foreign_files, write_checksums
from pnil_tf.contract.pixel_range import PixelRangeLike
from pnil_tf.errors import RunFailedError, UserError, argument
from pnil_tf.files import (
    refuse_file_in_the_way,
    replacing_folder,
    restore_folder,
    write_json,
    write_text,
)
from pnil_tf.serving.card import model_card, preprocessing
from pnil_tf.serving.certified import described
from pnil_tf.serving.record import PREPROCESSING, Record
from pnil_tf.serving.signatures import Servable, build_signatures, descriptions, servable

MARKER = "saved_model.pb"
"""The file by which a SavedModel is known."""
CARD, CLASS_NAMES, CERTIFICATE = "model_card.md", "class_names.json", "certificate.json"

logger = logging.getLogger(__name__)


def export_saved_model(
    model: Any,
    path: str | Path,
    *,
    class_names: Sequence[str] = (),
    resized: bool = False,
    image_shape: tuple[int, int, int] | None = None,
    pixel_range: PixelRangeLike | None = None,
    outputs: str | None = None,
    overwrite: bool = False,
    record: Record | None = None,
) -> Path:
    """Writes a classifier as a SavedModel that needs TensorFlow alone, and checks it.

    The folder holds the signatures `serving_default`, `serving_uint8`, `serving_bytes`,
    `monte_carlo`, `seeded` and `monte_carlo_seeded`, and `certified` where `pnil_tf.certify`
    takes the model; the assets `class_names.json`, `preprocessing.json` and with `certified`
    `certificate.json`; `SHA256SUMS` and `model_card.md`. The noise of the unseeded signatures is
    fresh at every call and in every process. The folder is whole or absent.

    Args:
        model: A built Keras model of any kind, or an `AdversarialModel`: float32 images
            `(batch, height, width, channels)` to logits or probabilities of several classes, or
            one output that speaks for class 1 of two.
        path: The folder to write.
        class_names: One name per class, in the order of the logits; none if unknown.
        resized: Whether `serving_bytes` resizes images; otherwise those of other sizes get no
            class.
        image_shape: `(height, width, channels)`, needed where the model leaves it open.
        pixel_range: `(low, high)` of the pixels that the model takes, and with it the signatures
            of floats. By default an `AdversarialModel`'s own, that which the model's preprocessing
            suits (0 to 255 where it begins with `Rescaling(1 / 255)`), or (0, 1).
        outputs: What the model answers, one of `pnil_tf.contract.outputs.KINDS`, where it leaves
            that open.
        overwrite: Whether an export at `path` is replaced.
        record: What else the model card says.

    Returns:
        `path`.

    Raises:
        UserError: If the model cannot be served or saved, the names do not fit its classes, or
            `path` is taken.
        RunFailedError: If the SavedModel does not answer as the model does.

    Examples:
        >>> export_saved_model(classifier, "served/1", class_names=["cat", "dog"])
    """
    path = Path(path)
    check_output(path, overwrite, MARKER)
    record = completed(record, class_names, resized)
    classifier = servable(model, image_shape, pixel_range, outputs)
    check_class_names(classifier, record)
    if isinstance(classifier.noise_in_front, UserError):
        logger.info("There is no signature 'certified'. %s", classifier.noise_in_front)
    with replacing_folder(path) as folder:
        signatures = build_signatures(classifier, record.resized)
        _save(classifier, record, signatures, folder)
        words = {name: descriptions(classifier)[name] for name in signatures}
        write_text(folder / CARD, model_card(classifier, record, words))
        write_checksums(folder, skip=(CARD,))
        _check(classifier, folder)
    return path


def completed(record: Record | None, class_names: Sequence[str] | None, resized: bool) -> Record:
    """Returns a record with what was said of a model besides.

    Raises:
        UserError: If the names have no order, or are the letters of one string.
    """
    if class_names is not None and not isinstance(class_names, (list, tuple)):
        raise UserError(
            "Class names come in the order of the logits. Received: "
            f"{type(class_names).__name__}. Give a list of strings."
        )
    record = record or Record()
    names = tuple(str(name) for name in class_names or ()) or record.class_names
    return dataclasses.replace(record, class_names=names, resized=resized or record.resized)


def check_output(path: Path, overwrite: bool, marker: str) -> None:
    """Refuses to write where something lies that is not to be replaced.

    Args:
        path: The folder to write.
        overwrite: Whether an export may be replaced.
        marker: The file that an export of this kind holds.

    Raises:
        UserError: If it may not be written.
    """
    refuse_file_in_the_way("The place of an export", path)
    restore_folder(path)
    if not path.exists():
        return
    if not path.is_dir() or (any(path.iterdir()) and not (path / marker).is_file()):
        raise UserError(
            "An export goes into a new folder, or in the place of an earlier export. Received: "
            f"{str(path)!r}, which holds no {marker}. Choose another one."
        )
    if any(path.iterdir()) and not overwrite:
        raise UserError(
            f"There is an export already. Received: {str(path)!r}. Choose another folder, or "
            f"replace the export with {argument('overwrite', True)}."
        )
    foreign = foreign_files(path, known=(CARD,)) if overwrite else []
    if foreign:
        raise UserError(
            f"{argument('overwrite')} replaces what an earlier export wrote, by its {CHECKSUMS}, "
            f"and nothing else. {str(path)!r} also holds {', '.join(map(repr, foreign[:3]))}"
            f"{' and more' if len(foreign) > 3 else ''}. Move that away, or choose another folder."
        )


def check_class_names(classifier: Servable, record: Record) -> None:
    """Refuses names that cannot belong to the classes.

    Raises:
        UserError: If there are names, but not one for each class.
    """
    names, classes = len(record.class_names), classifier.target.num_classes
    if names not in (0, classes):
        raise UserError(
            f"Every class needs a name. Received: {names} names for {classes} classes. Give one "
            "for each, in the order of the logits."
        )


def write_descriptions(folder: Path, classifier: Servable, record: Record) -> tuple[Path, Path]:
    """Writes class names and preprocessing as JSON and returns the files."""
    names, steps = folder / CLASS_NAMES, folder / PREPROCESSING
    write_json(names, list(record.class_names))
    write_json(steps, preprocessing(classifier, record))
    return names, steps


def _save(classifier: Servable, record: Record, signatures: dict[str, Any], folder: Path) -> None:
    # A plain module that holds the weights, and hides the Keras model within the functions:
    # whoever loads it needs no class of Keras' or ours.
    module = tf.Module()
    module.weights = [weight.value for weight in classifier.model.weights]
    with tempfile.TemporaryDirectory(prefix="pnil_tf_") as place:
        names, steps = write_descriptions(Path(place), classifier, record)
        module.class_names = tf.saved_model.Asset(str(names))
        module.preprocessing = tf.saved_model.Asset(str(steps))
        front = classifier.noise_in_front
        if isinstance(front, FrontNoise):
            write_json(Path(place) / CERTIFICATE, described(front))
            module.certificate = tf.saved_model.Asset(str(Path(place) / CERTIFICATE))
        try:
            tf.saved_model.save(module, str(folder), signatures=signatures)
        except (AssertionError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(
                f"{classifier.model.name!r} cannot be saved for serving ({reason}). A layer must "
                "keep its state in weights."
            ) from error


def _check(classifier: Servable, folder: Path) -> None:
    """Loads what was written and compares it with the model, where their noise can be equal."""
    loaded = tf.saved_model.load(str(folder))
    unit = np.random.default_rng(1).random((3, *classifier.image_shape), np.float32)
    images = tf.constant(classifier.pixel_range.from_unit(unit))
    found = loaded.signatures["serving_default"](images=images)["logits"].numpy()
    if not np.isfinite(found).all():
        raise RunFailedError("The exported model's logits are not finite. Nothing was written.")
    if not classifier.target.repeatable:
        return
    seed = 20021
    found = loaded.signatures["seeded"](images=images, seed=tf.constant(seed, tf.int64))["logits"]
    expected = classifier.logits(images, rng.make_seed(seed))
    off = float(tf.reduce_max(tf.abs(found - expected)))
    if off > 1e-3 * max(1.0, float(tf.reduce_max(tf.abs(expected)))):
        raise RunFailedError(
            f"The exported model's logits differ from the model's by {off:.3g}. Nothing was "
            "written. Layers must do the same in a graph as outside it."
        )
