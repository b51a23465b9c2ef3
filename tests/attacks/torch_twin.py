"""A Keras classifier once more in PyTorch, of the same weights, for attacks written for PyTorch."""

import keras
import torch
from torch import nn
from torch.nn import functional

from pnil_tf import rng
from pnil_tf.layers import PNILLayer


class _Noise(nn.Module):
    """What a `PNILLayer` does: noise whose log-variance is linear in the pixel."""

    def __init__(self, layer):
        super().__init__()
        if layer.from_context is not None or layer.sigma_floor or not layer.pixel_range.is_unit:
            raise ValueError(f"The noise of {layer.name!r} is of a kind that has no twin.")
        kernel = keras.ops.zeros_like(layer.bias) if layer.kernel is None else layer.kernel
        self.kernel, self.bias = (_weights(w, (2, 0, 1)) for w in (kernel, layer.bias))
        self.on = True

    def forward(self, x):
        if not self.on:
            return x
        return x + torch.randn_like(x) * torch.exp((x * self.kernel + self.bias) / 2)


class _Convolution(nn.Module):
    def __init__(self, layer):
        super().__init__()
        if layer.dilation_rate != (1, 1) or layer.groups != 1:
            raise ValueError(f"The convolution {layer.name!r} is of a kind that has no twin.")
        self.kernel = _weights(layer.kernel, (3, 2, 0, 1))
        self.bias = _weights(layer.bias) if layer.use_bias else None
        self.strides, self.same = layer.strides, layer.padding == "same"
        self.activation = _activation(layer)

    def forward(self, x):
        if self.same:  # TensorFlow's way: what cannot be halved goes to the end
            room = []
            for size, stride, width in zip(
                x.shape[:1:-1], self.strides[::-1], self.kernel.shape[:1:-1], strict=True
            ):
                rest = max((-(-size // stride) - 1) * stride + width - size, 0)
                room += [rest // 2, rest - rest // 2]
            x = functional.pad(x, room)
        return self.activation(functional.conv2d(x, self.kernel, self.bias, self.strides))


class _Flat(nn.Module):
    """Channels last, as Keras lays them out."""

    def __init__(self, layer):
        super().__init__()

    def forward(self, x):
        return x.movedim(1, -1).flatten(1)


class _Dense(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.kernel, self.bias = _weights(layer.kernel, (1, 0)), _weights(layer.bias)
        self.activation = _activation(layer)

    def forward(self, x):
        return self.activation(functional.linear(x, self.kernel, self.bias))


_TWINS = {
    PNILLayer: _Noise,
    keras.layers.Conv2D: _Convolution,
    keras.layers.Flatten: _Flat,
    keras.layers.Dense: _Dense,
}


class TorchTwin(nn.Sequential):
    """A chain of layers; float32 images `(n, channels, height, width)` in [0, 1] to logits.

    Args:
        model: A `keras.Sequential` of convolutions, dense layers and PNIL layers.

    Raises:
        ValueError: If one of its layers has no twin.
    """

    def __init__(self, model):
        for layer in model.layers:
            if type(layer) not in _TWINS:
                raise ValueError(f"{type(layer).__name__} has no twin in PyTorch here.")
        super().__init__(*(_TWINS[type(layer)](layer) for layer in model.layers))
        self.model = [model]  # in a list: it is no part of this one
        self.eval()

    @property
    def noises(self):
        """The noise layers."""
        return [layer for layer in self if isinstance(layer, _Noise)]

    def differs_by(self, x):
        """The largest difference between the logits of the two, all noise off.

        Args:
            x: float32 `(n, height, width, channels)` in [0, 1], NumPy.
        """
        with rng.noise_off():
            expected = keras.ops.convert_to_numpy(self.model[0](x))
        for noise in self.noises:
            noise.on = False
        with torch.no_grad():
            found = self(images(x).to(self[-1].kernel.device)).cpu().numpy()
        for noise in self.noises:
            noise.on = True
        return float(abs(found - expected).max())


def images(x):
    """Images of Keras, NumPy with channels last, as a tensor with channels first."""
    return torch.tensor(x).movedim(-1, 1).contiguous()


def _weights(weights, order=None):
    value = torch.tensor(keras.ops.convert_to_numpy(weights))
    return nn.Parameter(value.permute(order) if order else value, requires_grad=False)


def _activation(layer):
    name = layer.activation.__name__
    if name not in ("linear", "relu"):
        raise ValueError(f"The activation {name!r} has no twin in PyTorch here.")
    return functional.relu if name == "relu" else nn.Identity()
