"""What a `.keras` file would take to build, known before it is built.

Some kilobytes can describe a layer of a billion units, or a hundred thousand layers.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from pnil_tf.data.memory import check_room
from pnil_tf.errors import UserError
from pnil_tf.keras_internals import shapes_of_variables
from pnil_tf.training.losses import single_loss

MOST_PARTS = 25_000
"""Layers, initializers and the like: several times those of the largest keras.applications."""

_CONFIG = "config.json"
_MOST_BYTES = 2**26
# Keras does not compress, and weights hardly can be. Older Keras does not look.
_BULKY = 2**28
_MOST_EXPANSION = 100
# Variables as they are made, and then the values that are read into them; float32.
_BYTES = 2 * 4


def check_archive(file: Path) -> None:
    """Refuses a file that unpacks, or builds, to more than this machine has room for.

    Args:
        file: A `.keras` file.

    Raises:
        UserError: If so, or if the file is no archive.
        Exception: Whatever Keras raises for a description that it does not understand.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            sizes = {member.filename: member.file_size for member in archive.infolist()}
            advice = "Get the file again from whom you had it, or retrain the model."
            check_room(str(file), sum(sizes.values()), "its contents", advice)
            for member in archive.infolist():
                if member.file_size > max(_BULKY, _MOST_EXPANSION * member.compress_size):
                    raise UserError(
                        f"{file} is no Keras model: {member.filename!r} in it is too large when "
                        f"unpacked, {member.file_size:,} bytes from {member.compress_size:,}. "
                        f"{advice}"
                    )
            if sizes.get(_CONFIG, 0) > _MOST_BYTES:
                raise UserError(f"{file} is no Keras model: its description is too long. {advice}")
            config = json.loads(archive.read(_CONFIG))
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise UserError(
            f"{file} is not a Keras model: it is not a zip archive, or it was cut off ({error})."
        ) from error
    parts = sum(1 for _ in _parts(config))
    if parts > MOST_PARTS:
        raise UserError(
            f"{file} describes {parts:,} layers and parts of layers, more than the {MOST_PARTS:,} "
            "that are built from a file. If you trust it, build the model in Python, and evaluate "
            "that."
        )
    config.pop("compile_config", None)
    parameters = sum(math.prod(shape) for shape in shapes_of_variables(config))
    check_room(str(file), parameters * _BYTES, f"{parameters:,} parameters", advice)


def compiled_loss(file: Path) -> str | keras.losses.Loss | None:
    """The loss of Keras' own with which the model of an archive was compiled, `None` for others.

    It is looked up by its name: what a file describes is not built here.
    """
    with zipfile.ZipFile(file) as archive:
        config = json.loads(archive.read(_CONFIG)).get("compile_config")
    loss = single_loss(config.get("loss")) if isinstance(config, dict) else None
    if not isinstance(loss, dict):
        return loss if isinstance(loss, str) else None
    name, said = loss.get("class_name"), loss.get("config")
    if loss.get("module") == "builtins" and isinstance(said, str):  # a function
        return said
    found: Any = getattr(keras.losses, str(name), None)
    is_loss = isinstance(found, type) and issubclass(found, keras.losses.Loss)
    if not is_loss or found is keras.losses.Loss:
        return None
    from_logits = said.get("from_logits") if isinstance(said, dict) else None
    try:
        return found(from_logits=from_logits) if isinstance(from_logits, bool) else found()
    except TypeError:  # it knows no from_logits, and a file may say anything
        return None


def _parts(config: Any) -> Iterator[Any]:
    """Everything that a description would have Keras make."""
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "class_name" in value:
                yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
