"""A Keras classifier once more in PyTorch, of the same weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pnil_tf import rng
from pnil_tf.copying import as_graph
from pnil_tf.keras_internals import calls_of
from pnil_tf.layers import PNILLayer

PARITY = 1e-3
"""The logits of the two networks may differ by this; float32 explains a hundredth of it."""


class _Noise(nn.Module):
    """What a `PNILLayer` does: noise whose log-variance is linear in the pixel."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        of_another_kind = layer.from_context is not None or layer.sigma_floor
        if of_another_kind or not (layer.pixel_range.is_unit and layer.noise_at_inference):
            raise ValueError(f"The noise of {layer.name!r} is of a kind that has no twin.")
        kernel = keras.ops.zeros_like(layer.bias) if layer.kernel is None else layer.kernel
        self.kernel, self.bias = (_weights(w, (2, 0, 1)) for w in (kernel, layer.bias))
        self.on = True

    def forward(self, x: Any) -> Any:
        if not self.on:
            return x
        return x + torch.randn_like(x) * torch.exp((x * self.kernel + self.bias) / 2)


class _Convolution(nn.Module):
    def __init__(self, layer: Any) -> None:
        super().__init__()
        if tuple(layer.dilation_rate) != (1, 1) or getattr(layer, "groups", 1) != 1:
            raise ValueError(f"The convolution {layer.name!r} is of a kind that has no twin.")
        self.kernel, self.groups = self._kernel_of(layer)
        self.bias = _weights(layer.bias) if layer.use_bias else None
        self.strides, self.same = layer.strides, layer.padding == "same"
        self.activation = _activation(layer)

    def forward(self, x: Any) -> Any:
        padding = (0, 0)
        if self.same:
            (top, odd_row), (left, odd_column) = map(
                _room, x.shape[2:], self.strides, self.kernel.shape[2:]
            )
            if odd_row or odd_column:  # TensorFlow puts it at the end; conv2d has no word for that
                x = functional.pad(x, (left, left + odd_column, top, top + odd_row))
            else:
                padding = (top, left)
        return self.activation(
            functional.conv2d(x, self.kernel, self.bias, self.strides, padding, groups=self.groups)
        )

    def _kernel_of(self, layer: Any) -> tuple[Any, int]:
        """The kernel as PyTorch lays it out, and in how many groups the channels are taken."""
        return _weights(layer.kernel, (3, 2, 0, 1)), 1


class _Depthwise(_Convolution):
    def _kernel_of(self, layer: Any) -> tuple[Any, int]:
        if layer.depth_multiplier != 1:
            raise ValueError(f"The convolution {layer.name!r} is of a kind that has no twin.")
        return _weights(layer.kernel, (2, 3, 0, 1)), layer.kernel.shape[2]


def _room(size: int, stride: int, width: int) -> tuple[int, int]:
    """What is added on both sides of an axis, and at its end alone."""
    return divmod(max((-(-size // stride) - 1) * stride + width - size, 0), 2)


class _Flat(nn.Module):
    """Channels last, as Keras lays them out."""

    def __init__(self, layer: Any) -> None:
        super().__init__()

    def forward(self, x: Any) -> Any:
        return x.movedim(1, -1).flatten(1)


class _Dense(nn.Module):
    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.kernel = _weights(layer.kernel, (1, 0))
        self.bias = _weights(layer.bias) if layer.use_bias else None
        self.activation = _activation(layer)

    def forward(self, x: Any) -> Any:
        return self.activation(functional.linear(x, self.kernel, self.bias))


class _Mean(nn.Module):
    def __init__(self, layer: Any) -> None:
        super().__init__()
        if layer.keepdims:
            raise ValueError(f"The mean {layer.name!r} is of a kind that has no twin.")

    def forward(self, x: Any) -> Any:
        return x.mean((2, 3))


class _Sum(nn.Module):
    def __init__(self, layer: Any) -> None:
        super().__init__()

    def forward(self, *parts: Any) -> Any:
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total


class _Scaled(nn.Module):
    def __init__(self, layer: Any) -> None:
        super().__init__()
        if np.ndim(layer.scale) or np.ndim(layer.offset):
            raise ValueError(f"The scaling {layer.name!r} of each channel has no twin.")
        self.scale, self.offset = float(layer.scale), float(layer.offset)

    def forward(self, x: Any) -> Any:
        return x * self.scale + self.offset


def _padding(layer: Any) -> nn.Module:
    (top, bottom), (left, right) = layer.padding
    return nn.ZeroPad2d((left, right, top, bottom))


def _relu(layer: Any) -> nn.Module:
    if layer.max_value not in (None, 6) or layer.negative_slope or layer.threshold:
        raise ValueError(f"The activation {layer.name!r} is of a kind that has no twin.")
    return nn.ReLU() if layer.max_value is None else nn.ReLU6()


def _batch_norm(layer: Any) -> nn.Module:
    axes = layer.input_spec.ndim
    kind = {2: nn.BatchNorm1d, 4: nn.BatchNorm2d}.get(axes)
    if kind is None or layer.axis not in (-1, axes - 1) or not (layer.center and layer.scale):
        raise ValueError(f"The normalization {layer.name!r} is of a kind that has no twin.")
    twin = kind(layer.gamma.shape[0], layer.epsilon, 1 - layer.momentum)
    twin.weight, twin.bias = _weights(layer.gamma), _weights(layer.beta)
    twin.running_mean = _weights(layer.moving_mean).data
    twin.running_var = _weights(layer.moving_variance).data
    return twin


_TWINS = {
    PNILLayer: _Noise,
    keras.layers.Rescaling: _Scaled,
    keras.layers.ZeroPadding2D: _padding,
    keras.layers.Conv2D: _Convolution,
    keras.layers.DepthwiseConv2D: _Depthwise,
    keras.layers.Flatten: _Flat,
    keras.layers.Dense: _Dense,
    keras.layers.ReLU: _relu,
    keras.layers.BatchNormalization: _batch_norm,
    keras.layers.Add: _Sum,
    keras.layers.GlobalAveragePooling2D: _Mean,
}


class TorchTwin(nn.Module):
    """float32 images `(n, channels, height, width)` in [0, 1] to logits.

    It begins in inference mode, and with weights that are not trained: `train()` and
    `requires_grad_()` change that.

    Args:
        model: A Keras classifier of convolutions (also by channel), padding, scaling, batch
            normalization, dense layers, sums, a mean over the image, PNIL layers, and models of
            these.

    Raises:
        ValueError: If one of its layers has no twin.
    """

    def __init__(self, model: keras.Model) -> None:
        super().__init__()
        graph = as_graph(model)
        if graph is None:
            raise ValueError(f"{type(model).__name__}, which is no graph, has no twin in PyTorch.")
        self.layers = nn.ModuleList()
        self._taken: list[Sequence[int]] = []  # by each layer, of the values made before it
        known = [id(graph.inputs[0])]
        for operation, taken, made in calls_of(graph):
            if isinstance(operation, keras.layers.InputLayer):
                continue
            nested = isinstance(operation, keras.Model)
            if not nested and type(operation) not in _TWINS:
                raise ValueError(f"{type(operation).__name__} has no twin in PyTorch here.")
            if isinstance(operation, keras.layers.Dense) and len(taken[0].shape) != 2:
                raise ValueError(
                    f"The dense layer {operation.name!r}, which takes images, has no twin in "
                    "PyTorch here. Put a Flatten layer or a mean before it."
                )
            twin = TorchTwin if nested else _TWINS[type(operation)]
            self.layers.append(twin(operation))
            self._taken.append([known.index(id(tensor)) for tensor in taken])
            known.append(id(made[0]))
        self.model = [model]  # in a list: it is no part of this one
        self.eval()

    def forward(self, x: Any) -> Any:
        """Returns the logits, `(n, classes)`."""
        values = [x]
        for layer, taken in zip(self.layers, self._taken, strict=True):
            values.append(layer(*(values[number] for number in taken)))
        return values[-1]

    @property
    def noises(self) -> list[Any]:
        """The noise layers."""
        return [part for part in self.modules() if isinstance(part, _Noise)]

    def differs_by(self, x: np.ndarray) -> float:
        """The largest difference between the logits of the two, all noise off.

        Args:
            x: float32 `(n, height, width, channels)` in [0, 1].
        """
        with rng.noise_off():
            expected = keras.ops.convert_to_numpy(self.model[0](x))
        for noise in self.noises:
            noise.on = False
        with torch.no_grad():
            found = self(images(x).to(next(self.parameters()).device)).cpu().numpy()
        for noise in self.noises:
            noise.on = True
        return float(abs(found - expected).max())


def images(x: np.ndarray) -> Any:
    """Images of Keras, channels last, as a tensor with channels first."""
    return torch.tensor(x).movedim(-1, 1).contiguous()


def _weights(weights: Any, order: tuple[int, ...] | None = None) -> Any:
    value = torch.tensor(keras.ops.convert_to_numpy(weights))
    if order is not None:
        value = value.permute(order).contiguous()
    return nn.Parameter(value, requires_grad=False)


def _activation(layer: Any) -> Any:
    name = getattr(layer.activation, "__name__", repr(layer.activation))
    if name not in ("linear", "relu"):
        raise ValueError(f"The activation {name!r} has no twin in PyTorch here.")
    return functional.relu if name == "relu" else nn.Identity()
