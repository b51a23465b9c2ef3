"""The same batch over and over, from memory: steps are timed, and no data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pnil_tf.vocabulary import REAL_SIZE_MODEL

SHAPES = {
    "small_cnn": (28, 28, 1),
    "resnet11": (32, 32, 3),
    REAL_SIZE_MODEL: (224, 224, 3),
}
"""The images of each classifier: those of MNIST and of CIFAR-10, and photographs."""
CLASSES = 10
LEARNING_RATE = 1e-4


def one_batch(model: str, batch_size: int) -> tuple[np.ndarray, np.ndarray, tf.data.Dataset]:
    """Random images (float32, in [0, 1]) and labels (int32) for a classifier, and their stream."""
    generator = np.random.default_rng(0)
    x = generator.uniform(0.0, 1.0, (batch_size, *SHAPES[model])).astype(np.float32)
    y = generator.integers(0, CLASSES, batch_size).astype(np.int32)
    options = tf.data.Options()
    options.autotune.enabled = False  # its thread holds up the end of an iterator
    return x, y, tf.data.Dataset.from_tensors((x, y)).repeat().with_options(options)


def compiled(model: keras.Model) -> keras.Model:
    """The model, ready to train: Adam at a rate that changes little, accuracy beside the loss."""
    model.compile(
        keras.optimizers.Adam(LEARNING_RATE),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def fitting(model: keras.Model, stream: tf.data.Dataset, steps: int) -> Callable[[], Any]:
    """What makes so many training steps of a model on a stream, whenever it is called."""
    compiled(model)
    return lambda: model.fit(stream, steps_per_epoch=steps, shuffle=False, verbose=0)
