"""What tensors hold, and what works on them, as names for signatures.

TensorFlow's own types say nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import keras
import tensorflow as tf

Tensor: TypeAlias = tf.Tensor
"""Numbers of any shape."""

Images: TypeAlias = tf.Tensor
"""float32 `(batch, height, width, channels)`, in [0, 1] unless a function says otherwise."""

Pixels: TypeAlias = tf.Tensor
"""Images as a model takes them, float32 in its own pixel range."""

Answers: TypeAlias = tf.Tensor
"""What a model answers, `(batch, count)`: logits or probabilities."""

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

Operation: TypeAlias = tf.Operation
"""An operation of TensorFlow's graph."""

AnyModel: TypeAlias = keras.Layer | Callable[[Pixels], Answers]
"""A stranger's model: Keras', or any other callable."""

Call: TypeAlias = Callable[[Pixels, bool], Answers]
"""A model as it is called, with whether that is for training."""
