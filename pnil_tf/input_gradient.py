"""The gradient of a strided first convolution with respect to its image, at a convolution's price.

On a CPU TensorFlow takes three to four times as long for that gradient as for the forward pass
where a convolution with stride sees few channels, as the first one of a classifier does; every
gradient attack pays for it at every step. The same sums are a convolution without stride: each
offset of a pixel within a stride is a channel of it, and `depth_to_space` puts them in place.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

# Measured: with 1 and 3 channels it takes half as long as TensorFlow's own, with 16 longer.
_MOST_CHANNELS = 4


@contextlib.contextmanager
def quick_input_gradients(model: keras.Layer) -> Iterator[None]:
    """Within it, a Keras model's strided convolutions of few channels differentiate quickly.

    Outputs and gradients are those of the model, up to the order of additions. It changes
    nothing where TensorFlow sees a GPU, under several replicas, and for layers that compute in
    another dtype than float32, have groups or dilation, or no static image size.

    Args:
        model: The model that is called inside.
    """
    layers = [] if _elsewhere() else [layer for layer in model._flatten_layers() if _is_slow(layer)]
    for layer in layers:
        # Past Keras' own setter, which would track it: nothing of this may stay or be saved.
        layer.__dict__["convolution_op"] = functools.partial(_convolution, layer)
    try:
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("convolution_op", None)


def _elsewhere() -> bool:
    # Replicas are traced in threads that share the layers.
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    return replicas > 1 or bool(tf.config.list_logical_devices("GPU"))


def _is_slow(layer: keras.Layer) -> bool:
    return (
        isinstance(layer, keras.layers.Conv2D)
        and type(layer).convolution_op is keras.layers.Conv2D.convolution_op
        and "convolution_op" not in layer.__dict__
        and layer.built
        and layer.kernel.shape[2] <= _MOST_CHANNELS
        and layer.groups == 1
        and layer.strides[0] == layer.strides[1] > 1
        and tuple(layer.dilation_rate) == (1, 1)
        and layer.data_format == "channels_last"
        and layer.compute_dtype == "float32"
    )


def _convolution(layer: keras.layers.Conv2D, inputs: Any, kernel: Any) -> Any:
    """What `layer.convolution_op(inputs, kernel)` returns, with a gradient of its own."""
    original = functools.partial(type(layer).convolution_op, layer)
    inputs = tf.convert_to_tensor(inputs)
    if None in inputs.shape[1:] or inputs.dtype != tf.float32:
        return original(inputs, kernel)
    stride, padding = layer.strides[0], layer.padding.upper()

    @tf.custom_gradient
    def convolve(x: Any, w: Any) -> Any:
        def gradients(upstream: Any) -> tuple[Any, Any]:
            of_kernel = tf.raw_ops.Conv2DBackpropFilter(
                input=x,
                filter_sizes=tf.shape(w),
                out_backprop=upstream,
                strides=[1, stride, stride, 1],
                padding=padding,
            )
            return input_gradient(upstream, w, x.shape[1:3], stride, padding), of_kernel

        return original(x, w), gradients

    return convolve(inputs, tf.convert_to_tensor(kernel))


def input_gradient(
    upstream: Any, kernel: Any, size: tuple[int, int], stride: int, padding: str
) -> Any:
    """Returns the gradient of a strided convolution with respect to its input.

    Args:
        upstream: float32 gradient with respect to the output `(batch, rows, columns, filters)`.
        kernel: float32 `(kernel rows, kernel columns, channels, filters)`.
        size: Rows and columns of the input.
        stride: Stride along both, at least 2.
        padding: `"SAME"` or `"VALID"`.

    Returns:
        float32 `(batch, *size, channels)`.
    """
    *kernel_size, channels, filters = kernel.shape
    blocks = [-(-extent // stride) for extent in kernel_size]
    fill = [blocks[i] * stride - kernel_size[i] for i in range(2)]
    # Tap (block * stride + offset) of the kernel reaches the input at that offset; as the
    # convolution turns the taps around, the blocks are reversed.
    taps = tf.pad(kernel, [[0, fill[0]], [0, fill[1]], [0, 0], [0, 0]])
    taps = tf.reshape(taps, [blocks[0], stride, blocks[1], stride, channels, filters])
    taps = tf.transpose(taps, [0, 2, 5, 1, 3, 4])[::-1, ::-1]
    taps = tf.reshape(taps, [*blocks, filters, stride * stride * channels])
    margins = [[0, 0], *([block - 1] * 2 for block in blocks), [0, 0]]
    offsets = tf.nn.conv2d(upstream, taps, 1, margins)
    whole = tf.nn.depth_to_space(offsets, stride)

    before = [0, 0]
    if padding == "SAME":
        covered = [(upstream.shape[1 + i] - 1) * stride + kernel_size[i] for i in range(2)]
        before = [max(covered[i] - size[i], 0) // 2 for i in range(2)]
    # Pixels at the far edges that no tap reaches.
    missing = [max(before[i] + size[i] - whole.shape[1 + i], 0) for i in range(2)]
    if any(missing):
        whole = tf.pad(whole, [[0, 0], [0, missing[0]], [0, missing[1]], [0, 0]])
    return whole[:, before[0] : before[0] + size[0], before[1] : before[1] + size[1], :]
