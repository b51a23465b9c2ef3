"""Classifiers whose body is a network of `keras.applications`."""

from __future__ import annotations

import functools
import inspect
import math
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np

from pnil_tf.contract.pixel_range import UNIT, PixelRange
from pnil_tf.errors import UserError, argument, reason
from pnil_tf.keras_internals import all_layers
from pnil_tf.validation import require_known
from pnil_tf.vocabulary import BACKBONE_PREFIX

_KIND = "network of keras.applications"


def is_backbone(model: str) -> bool:
    """Whether a model's name is that of such a classifier, spelt rightly or not."""
    return model.startswith(BACKBONE_PREFIX)


def check_backbone(model: str, weights: str | None) -> None:
    """Refuses what can be refused before any image is read.

    Args:
        model: The name, with its prefix.
        weights: A file on this disk, or `None`.

    Raises:
        UserError: If no network has this name, or there is no such file.
    """
    name = model.removeprefix(BACKBONE_PREFIX)
    require_known(_KIND, name, _homes())
    if weights is None or Path(weights).expanduser().is_file():
        return
    if Path(weights).suffix:
        raise UserError(
            f"There is no file of weights at {weights!r}. Check {argument('weights', weights)}."
        )
    raise UserError(
        f"Weights are read from a file, and nothing is downloaded. Received: "
        f"{argument('weights', weights)}. On a machine with a network, "
        f"keras.applications.{name}(include_top=False) puts them into ~/.keras/models: give the "
        "path of that file, whose name has notop or no_top at its end."
    )


def backbone(
    model: str,
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    pnil: Any = None,
    pixel_range: PixelRange = UNIT,
    weights: str | None = None,
    freeze_batch_norm: bool = False,
) -> keras.Model:
    """A network of `keras.applications`, its mean over positions, and one new layer; logits out.

    What the network wants done to its pixels (`preprocess_input`) is done inside, behind `pnil`,
    so the classifier takes pixels of `pixel_range`. Grey images are handed on as three equal
    channels.

    Args:
        model: The network's name, with its prefix.
        input_shape: `(height, width, channels)` of the images.
        num_classes: Number of logits.
        pnil: A layer to put in front, for example a `PNILLayer`, or `None`.
        pixel_range: The pixels of the images.
        weights: File of the network's weights without its last layers, as Keras keeps them; by
            default they are random.
        freeze_batch_norm: Whether its `BatchNormalization` layers keep their statistics, scales
            and shifts.

    Raises:
        UserError: If no network has this name, the images are too small for it or have another
            number of channels than one or three, or the file holds other weights.
    """
    check_backbone(model, weights)
    name = model.removeprefix(BACKBONE_PREFIX)
    home = _homes()[name]
    if input_shape[-1] not in (1, 3):
        raise UserError(
            f"{name} takes images of one or three channels. Received: {input_shape[-1]}."
        )
    inputs = x = keras.Input(input_shape)
    if pnil is not None:
        x = pnil(x)
    if input_shape[-1] == 1:
        x = keras.layers.Concatenate()([x, x, x])
    for step in preprocessing(home, pixel_range):
        x = step(x)
    network = _built(home, name, input_shape[:2])
    if weights is not None:
        _load(network, name, str(Path(weights).expanduser()))
    if freeze_batch_norm:
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
    outputs = keras.layers.Dense(num_classes, dtype="float32", name="logits")(network(x))
    return keras.Model(inputs, outputs, name=name.lower())


def kept_values(network: keras.Model) -> int:
    """How many numbers a training step keeps of an image within a network, for its gradient."""
    return sum(
        math.prod(size for size in tensor.shape if size is not None)
        for layer in all_layers(network)
        if not isinstance(layer, keras.Model)
        for tensor in keras.tree.flatten(layer.output)
    )


def _homes() -> dict[str, ModuleType]:
    """The networks, each with the module that made it, which has its preprocessing, too."""
    return {
        name: sys.modules[make.__module__]
        for name, make in vars(keras.applications).items()
        if inspect.isfunction(make)
    }


def _built(home: ModuleType, name: str, size: tuple[int, int]) -> keras.Model:
    make: Callable[..., keras.Model] = getattr(home, name)
    try:
        network = make(include_top=False, weights=None, input_shape=(*size, 3), pooling="avg")
    except ValueError as error:
        if "at least" not in str(error):
            raise
        raise UserError(
            f"The images are too small for {name}. {reason(error).rstrip('.')}. Make them "
            f"larger with {argument('image_size')}."
        ) from error
    for layer in all_layers(network):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True  # several replicas are to train as one device does
    return network


def _load(network: keras.Model, name: str, file: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Keras only warns of what stays as it was
            network.load_weights(file)
    # Files of weights fail in HDF5, in Keras or in NumPy, wherever they first differ.
    except Exception as error:
        raise UserError(
            f"{argument('weights', file)} does not hold the weights of {name} without its last "
            f"layers: {reason(error)[:200].rstrip('.')}. Give a file that "
            f"{name}(include_top=False) wrote."
        ) from error


def preprocessing(home: ModuleType, pixel_range: PixelRange) -> list[Callable[[Any], Any]]:
    """What brings pixels of a range to what the network was made for.

    `preprocess_input` takes pixels from 0 to 255, which it scales and shifts, and for some networks
    it turns the order of the channels round. As layers of their own this can be saved, and read by
    whoever looks for the range of a model's pixels. Where Keras builds the scaling into the
    network itself (MobileNetV3, EfficientNet, ConvNeXt), `preprocess_input` does nothing, and so
    nothing is scaled twice.

    Args:
        home: The network's module.
        pixel_range: Of the pixels that come.
    """
    corners = 255.0 * np.concatenate([np.zeros((1, 3)), np.eye(3)])
    seen = home.preprocess_input(corners.reshape(4, 1, 1, 3)).reshape(4, 3)
    offset, matrix = seen[0], (seen[1:] - seen[0]) / 255.0
    turned = bool(matrix[0, 2])
    if turned:
        offset, matrix = offset[::-1], matrix[:, ::-1]
    scale = np.diag(matrix) * 255.0 / pixel_range.width
    offset = offset - scale * pixel_range.low
    steps: list[Callable[[Any], Any]] = []
    if not (np.allclose(scale, 1.0) and np.allclose(offset, 0.0)):
        steps.append(keras.layers.Rescaling(_number(scale), _number(offset)))
    if turned:
        steps.append(functools.partial(keras.ops.flip, axis=-1))
    return steps


def _number(values: np.ndarray) -> float | list[float]:
    """One number for all channels, where they are alike."""
    return float(values[0]) if np.ptp(values) < 1e-7 else [float(value) for value in values]
