"""The gradient of a first convolution with respect to its images, at about a convolution's price.

On a CPU TensorFlow takes two to six times as long for that gradient as for the forward pass where
a convolution sees few channels, as the first one of a classifier does; every gradient attack pays
for it at every step. The same sums are a convolution over the gradient of the outputs, whose
channels are the pixels of a block; a transposition puts the blocks in place.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pnil_tf.keras_internals import all_layers, in_branch
from pnil_tf.stand_ins import on_one_cpu, standing_in
from pnil_tf.tensors import Tensor

# Measured against TensorFlow's own: with up to 4 channels it takes a quarter to nine tenths of the
# time, with 16 as long or longer, as with a kernel of 1 or 2 pixels without stride.
_MOST_CHANNELS = 4

_VECTOR = 16  # float32 numbers, AVX-512


@contextlib.contextmanager
def quick_input_gradients(model: keras.Layer) -> Iterator[None]:
    """Within it, a Keras model's convolutions of few channels differentiate quickly.

    Outputs and gradients are those of the model, up to the order of additions. It changes
    nothing where TensorFlow sees a GPU, under several replicas, and for layers that compute in
    another dtype than float32, have groups or dilation, no static image size, or a place in a
    branch of the graph.

    Args:
        model: The model that is called inside.
    """
    layers = filter(_is_slow, all_layers(model)) if on_one_cpu() else ()
    with standing_in(layers, "convolution_op", _convolution):
        yield


def _is_slow(layer: keras.Layer) -> bool:
    return (
        isinstance(layer, keras.layers.Conv2D)
        and type(layer).convolution_op is keras.layers.Conv2D.convolution_op
        and "convolution_op" not in layer.__dict__
        and layer.built
        and layer.kernel.shape[2] <= _MOST_CHANNELS
        and layer.groups == 1
        and layer.strides[0] == layer.strides[1]
        and (layer.strides[0] > 1 or min(layer.kernel_size) > 2)
        and tuple(layer.dilation_rate) == (1, 1)
        and layer.data_format == "channels_last"
        and layer.compute_dtype == "float32"
    )


def _convolution(layer: keras.layers.Conv2D, inputs: Tensor, kernel: Tensor) -> Tensor:
    """What `layer.convolution_op(inputs, kernel)` returns, with a gradient of its own."""
    original = functools.partial(type(layer).convolution_op, layer)
    inputs = tf.convert_to_tensor(inputs)
    if None in inputs.shape[1:] or inputs.dtype != tf.float32 or in_branch():
        return original(inputs, kernel)
    stride, padding = layer.strides[0], layer.padding.upper()

    @tf.custom_gradient
    def convolve(x: Tensor, w: Tensor) -> Any:
        def gradients(upstream: Tensor) -> tuple[Tensor, Tensor]:
            of_kernel = tf.raw_ops.Conv2DBackpropFilter(
                input=x,
                filter_sizes=tf.shape(w),
                out_backprop=upstream,
                strides=[1, stride, stride, 1],
                padding=padding,
            )
            with tf.name_scope("quick_input_gradient"):
                of_image = input_gradient(upstream, w, x.shape[1:3], stride, padding)
            return of_image, of_kernel

        return original(x, w), gradients

    return convolve(inputs, tf.convert_to_tensor(kernel))


def input_gradient(
    upstream: Tensor, kernel: Tensor, size: tuple[int, int], stride: int, padding: str
) -> Tensor:
    """Returns the gradient of a convolution with respect to its input.

    Args:
        upstream: float32 gradient with respect to the output `(batch, rows, columns, filters)`.
        kernel: float32 `(kernel rows, kernel columns, channels, filters)`.
        size: Rows and columns of the input.
        stride: Stride along both axes.
        padding: `"SAME"` or `"VALID"`.

    Returns:
        float32 `(batch, *size, channels)`.
    """
    *kernel_size, channels, filters = kernel.shape
    reach = [-(-extent // stride) for extent in kernel_size]  # Outputs that touch one pixel.
    group = _group(reach, stride, channels)
    block = group * stride
    # Each step of the convolution sees the outputs that touch a block of pixels, and tells the
    # block's gradient: output i, counted from the first one that touches it, has its tap
    # `offset` there. What is no tap of the kernel finds the zeros behind its last one.
    outputs = [extent - 1 + group for extent in reach]
    taps = tf.pad(kernel, [[0, 1], [0, 1], [0, 0], [0, 0]])
    for axis, (touching, last) in enumerate(zip(reach, kernel_size, strict=True)):
        first = np.arange(outputs[axis])[:, None] - (touching - 1)
        offset = np.arange(block) - first * stride
        offset = np.where((offset >= 0) & (offset < last), offset, last)
        taps = tf.gather(taps, offset, axis=2 * axis)
    taps = tf.transpose(taps, [0, 2, 5, 1, 3, 4])
    taps = tf.reshape(taps, [*outputs, filters, block * block * channels])

    blocks = [-(-(upstream.shape[1 + i] + reach[i] - 1) // group) for i in range(2)]
    margins = [[reach[i] - 1, blocks[i] * group - upstream.shape[1 + i]] for i in range(2)]
    whole = tf.nn.conv2d(upstream, taps, group, [[0, 0], *margins, [0, 0]])
    # What `depth_to_space` does, at a fifth of its price on a CPU.
    whole = tf.reshape(whole, [-1, *blocks, block, block * channels])
    whole = tf.transpose(whole, [0, 1, 3, 2, 4])
    whole = tf.reshape(whole, [-1, blocks[0] * block, blocks[1] * block, channels])

    before = [0, 0]
    if padding == "SAME":
        covered = [(upstream.shape[1 + i] - 1) * stride + kernel_size[i] for i in range(2)]
        before = [max(covered[i] - size[i], 0) // 2 for i in range(2)]
    # Pixels at the far edges that no tap reaches.
    missing = [max(before[i] + size[i] - whole.shape[1 + i], 0) for i in range(2)]
    if any(missing):
        whole = tf.pad(whole, [[0, 0], [0, missing[0]], [0, missing[1]], [0, 0]])
    return whole[:, before[0] : before[0] + size[0], before[1] : before[1] + size[1], :]


def _group(reach: list[int], stride: int, channels: int) -> int:
    """Returns how many neighbouring outputs, along both axes, cost the least taken together.

    A CPU computes the channels of a convolution by the vector: a single pixel of a gray image
    would leave most of it empty, and a larger block takes in taps that are zero.
    """

    def cost(group: int) -> float:
        vectors = -(-((group * stride) ** 2) * channels // _VECTOR)
        return vectors * math.prod(1 + (extent - 1) / group for extent in reach)

    return min(range(1, 5), key=cost)
