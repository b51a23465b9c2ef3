"""What Keras hands to a training and takes from it, as names for signatures.

Keras is untyped: these say what its documentation says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from pnil_tf.tensors import Answers, Labels, Scalar, Tensor

Array: TypeAlias = np.ndarray | Tensor
"""Numbers in NumPy's memory or TensorFlow's."""

Batch: TypeAlias = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
"""What a step is handed: `(images, labels)`, or with a weight for each; or images alone."""

Data: TypeAlias = Array | tf.data.Dataset | keras.utils.PyDataset | Iterable[Batch] | None
"""What `fit`, `evaluate` and `predict` take: images, or what yields batches."""

Logs: TypeAlias = Mapping[str, Tensor]
"""What a step answers: metrics by name."""

EpochLogs: TypeAlias = dict[str, float] | None
"""What a callback is told: metrics by name, to which it may add."""

Figures: TypeAlias = float | list[float] | dict[str, float]
"""What `evaluate` returns: the loss, or all metrics in their order or by name."""

UserMetric: TypeAlias = str | keras.metrics.Metric | Callable[[Labels, Answers], Tensor]
"""A metric as `compile` takes it: its name, an object of Keras', or a function."""

UserMetrics: TypeAlias = Sequence[UserMetric] | Mapping[str, UserMetric] | None
"""The metrics as `compile` takes them."""

LossWeights: TypeAlias = float | Sequence[float] | Mapping[str, float] | None
"""The weights of losses as `compile` takes them."""

Rate: TypeAlias = Scalar | keras.optimizers.schedules.LearningRateSchedule
"""A learning rate, or what gives one for each step."""

Config: TypeAlias = dict[str, Any]
"""The arguments that rebuild an object of Keras', ready for JSON."""

State: TypeAlias = dict[str, Any]
"""What a callback needs to go on after an interruption, ready for JSON."""
