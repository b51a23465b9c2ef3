"""The classifiers of the paper's experiment, and how a name becomes one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras

from pnil_tf.backbones import backbone, is_backbone
from pnil_tf.contract.pixel_range import UNIT, PixelRange
from pnil_tf.errors import UserError
from pnil_tf.layers import PNILLayer
from pnil_tf.vocabulary import BACKBONE_PREFIX
from pnil_tf.vocabulary import MODELS as NAMES

_WIDTH = 16
_HIDDEN = 100


def small_cnn(
    input_shape: tuple[int, int, int],
    num_classes: int,
    width: int = _WIDTH,
    pnil: Any = None,
    pixel_range: PixelRange = UNIT,
) -> keras.Model:
    """Two convolutions and one fully connected layer; logits out.

    The convolutions are 4x4 with stride 2, as is usual in the literature of one-step training
    on MNIST (Wong et al. 2020); the paper gives no sizes.

    Args:
        input_shape: `(height, width, channels)` of the images.
        num_classes: Number of logits.
        width: Channels of the first convolution; the second has twice as many.
        pnil: A layer to put in front, for example a `PNILLayer`, or `None`.
        pixel_range: The pixels of the images; those other than [0, 1] are scaled to it.
    """
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(input_shape),
            *_in_front(pnil, pixel_range),
            layers.Conv2D(width, 4, strides=2, padding="same", activation="relu"),
            layers.Conv2D(2 * width, 4, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(_HIDDEN, activation="relu"),
            layers.Dense(num_classes, dtype="float32"),
        ],
        name="small_cnn",
    )


def resnet11(
    input_shape: tuple[int, int, int],
    num_classes: int,
    width: int = 64,
    pnil: Any = None,
    pixel_range: PixelRange = UNIT,
) -> keras.Model:
    """A residual network with eleven weight layers; logits out.

    One convolution, four stages of one pre-activation block (two convolutions; He et al. 2016),
    a 1x1 convolution, average pooling and one fully connected layer. Stages two to four halve
    the image and double the channels. Batch statistics are shared between replicas.

    Args:
        input_shape: `(height, width, channels)` of the images.
        num_classes: Number of logits.
        width: Channels of the first stage.
        pnil: A layer to put in front, for example a `PNILLayer`, or `None`.
        pixel_range: The pixels of the images; those other than [0, 1] are scaled to it.
    """
    layers = keras.layers

    def activate(x: Any) -> Any:
        return layers.ReLU()(layers.BatchNormalization(synchronized=True)(x))

    def convolve(x: Any, channels: int, size: int = 3, strides: int = 1) -> Any:
        return layers.Conv2D(channels, size, strides, padding="same", use_bias=False)(x)

    inputs = x = keras.Input(input_shape)
    for layer in _in_front(pnil, pixel_range):
        x = layer(x)
    x = convolve(x, width)
    for stage in range(4):
        channels, strides = width * 2**stage, 1 if stage == 0 else 2
        activated = activate(x)
        shortcut = x if stage == 0 else convolve(activated, channels, 1, strides)
        x = convolve(activate(convolve(activated, channels, 3, strides)), channels)
        x = layers.Add()([x, shortcut])
    x = convolve(activate(x), width * 8, 1)
    x = layers.GlobalAveragePooling2D()(activate(x))
    outputs = layers.Dense(num_classes, dtype="float32")(x)
    return keras.Model(inputs, outputs, name="resnet11")


def _in_front(pnil: Any, pixel_range: PixelRange) -> list[Any]:
    layers = [] if pnil is None else [pnil]
    if not pixel_range.is_unit:
        scale = 1.0 / pixel_range.width
        layers.append(keras.layers.Rescaling(scale, -pixel_range.low * scale))
    return layers


MODELS: dict[str, Callable[..., keras.Model]] = {"small_cnn": small_cnn, "resnet11": resnet11}
assert tuple(MODELS) == NAMES


def build_model(
    name: str,
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    width: int | None = None,
    pnil: PNILLayer | None = None,
    pixel_range: PixelRange = UNIT,
    weights: str | None = None,
    freeze_batch_norm: bool = False,
) -> keras.Model:
    """Returns the classifier that a name stands for.

    Its weights are freshly initialised, but for those that a backbone takes from a file; see
    `backbones.backbone`.

    Raises:
        UserError: If no model has this name, or a backbone cannot be had so.
    """
    if is_backbone(name):
        return backbone(
            name,
            input_shape,
            num_classes,
            pnil=pnil,
            pixel_range=pixel_range,
            weights=weights,
            freeze_batch_norm=freeze_batch_norm,
        )
    if name not in MODELS:
        raise UserError(
            f"No model has this name. Received: {name!r}. Choose one of {', '.join(MODELS)}, or "
            f"{BACKBONE_PREFIX}NAME."
        )
    sizes = {} if width is None else {"width": width}
    return MODELS[name](input_shape, num_classes, pnil=pnil, pixel_range=pixel_range, **sizes)


def hidden_weights(name: str, input_shape: tuple[int, int, int], width: int | None = None) -> int:
    """How many weights grow with the size of the images: those of `small_cnn`'s hidden layer.

    Known without building the classifier, which may not fit in memory.
    """
    if name != "small_cnn":
        return 0
    height, columns, _ = input_shape
    return math.ceil(height / 4) * math.ceil(columns / 4) * 2 * (width or _WIDTH) * _HIDDEN
