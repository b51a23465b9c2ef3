"""What tensors hold, as names for signatures: TensorFlow's own type says nothing of it."""

from __future__ import annotations

from typing import TypeAlias

import tensorflow as tf

Tensor: TypeAlias = tf.Tensor
"""Numbers of any shape."""

Images: TypeAlias = tf.Tensor
"""float32 `(batch, height, width, channels)`, in [0, 1] unless a function says otherwise."""

Logits: TypeAlias = tf.Tensor
"""float32 `(batch, classes)`."""

Labels: TypeAlias = tf.Tensor
"""The true class of each image, int `(batch,)`, or what a loss takes in its place."""

PerImage: TypeAlias = tf.Tensor
"""One number for each image, `(batch,)`: a loss, a distance, or whether something holds."""

Scalar: TypeAlias = tf.Tensor | float
"""A single number, in a graph or outside it: a step, a count, a length."""

Seed: TypeAlias = tf.Tensor
"""int32 `(2,)`, as TensorFlow's stateless random functions take it."""

Shape: TypeAlias = tf.Tensor
"""The sizes of a tensor, as `tf.shape` gives them."""
