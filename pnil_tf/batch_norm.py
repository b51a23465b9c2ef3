"""Batch normalization in training as one operation, where a CPU computes it.

Keras computes it step by step, in float32 under every precision: an RFGSM step of ResNet-11 goes
over its activations some forty times, which takes as much time as bfloat16 saves in the
convolutions. TensorFlow's fused operation reads and writes them in the precision that they have,
and sums in float32.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from pnil_tf.keras_internals import all_layers
from pnil_tf.stand_ins import on_one_cpu, standing_in
from pnil_tf.tensors import Tensor

_METHOD = "call"
_DTYPES = (tf.float32, tf.bfloat16, tf.float16)


@contextlib.contextmanager
def fused_batch_norm(model: keras.Layer) -> Iterator[None]:
    """Within it, a Keras model's batch normalizations are fused while they train.

    Outputs, gradients and moving statistics are those of the model, up to the order of additions.
    It changes nothing where TensorFlow sees a GPU, under several replicas, at inference, and for
    layers of another kind than images' channels along the last axis.

    Args:
        model: The model that is called inside.
    """
    layers = filter(_can_be_fused, all_layers(model)) if on_one_cpu() else ()
    with standing_in(layers, _METHOD, _call):
        yield


def _can_be_fused(layer: keras.Layer) -> bool:
    return (
        isinstance(layer, keras.layers.BatchNormalization)
        and type(layer).call is keras.layers.BatchNormalization.call
        and _METHOD not in layer.__dict__
        and layer.axis in (-1, 3)
        and layer.trainable
        and not getattr(layer, "renorm", False)
    )


def _call(
    layer: keras.layers.BatchNormalization,
    inputs: Tensor,
    training: bool | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """What `layer.call(inputs, training, mask)` returns, and its new moving statistics."""
    inputs = tf.convert_to_tensor(inputs)
    if not training or mask is not None or inputs.shape.rank != 4 or inputs.dtype not in _DTYPES:
        return type(layer).call(layer, inputs, training=training, mask=mask)
    channels = [inputs.shape[-1]]
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=inputs,
        scale=tf.cast(layer.gamma, tf.float32) if layer.scale else tf.ones(channels),
        offset=tf.cast(layer.beta, tf.float32) if layer.center else tf.zeros(channels),
        mean=tf.zeros([0]),
        variance=tf.zeros([0]),
        epsilon=layer.epsilon,
        is_training=True,
    )
    # It tells the variance of what the batch is a sample of; Keras keeps that of the batch.
    values = tf.cast(tf.size(inputs) / channels[0], tf.float32)
    variance *= (values - 1.0) / values
    for statistic, value in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        kept = tf.cast(statistic, tf.float32) * layer.momentum
        statistic.assign(kept + tf.stop_gradient(value) * (1.0 - layer.momentum))
    return tf.cast(outputs, layer.compute_dtype)
