"""The accuracy that `compile(metrics=["accuracy"])` means for a classifier."""

from __future__ import annotations

from typing import Any

import keras

from pnil_tf.contract.outputs import LOGIT, PROBABILITY, Outputs
from pnil_tf.errors import UserError
from pnil_tf.tensors import Tensor
from pnil_tf.training.labels import Labels


@keras.saving.register_keras_serializable(package="pnil_tf")
class ClassifierAccuracy(keras.metrics.Mean):
    """Share of images whose class is right, by the rule of `adversarial_accuracy`.

    Keras' own asks whether a single output is above 0.5, which is right for a probability and
    wrong for a logit, and compares the labels -1 and 1 of hinge losses with 0 and 1.

    Args:
        name: Name of the metric.
        dtype: As for `keras.metrics.Mean`.
    """

    def __init__(self, name: str = "accuracy", dtype: Any = None) -> None:
        super().__init__(name, dtype)
        self._labels: Labels | None = None
        self._border = 0.0

    def settle(self, labels: Labels, outputs: Outputs) -> None:
        """Says how labels and outputs are read; before the first update."""
        self._labels = labels
        self._border = 0.5 if outputs.kind == PROBABILITY else 0.0

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Any:
        """Takes in a batch: labels as the loss takes them, the outputs `(batch, count)`."""
        if self._labels is None:
            raise ValueError("This accuracy belongs to the `compile` of an AdversarialModel.")
        outputs = keras.ops.cast(y_pred, "float32") - self._border
        return super().update_state(self._labels.correct(y_true, outputs), sample_weight)


def check_thresholds(metrics: list[Any], outputs: Outputs) -> None:
    """Refuses a metric that takes one logit for a probability.

    Args:
        metrics: As `compile` takes them, flat.
        outputs: What the classifier answers.

    Raises:
        UserError: If so.
    """
    for metric in metrics if outputs.kind == LOGIT else []:
        named = isinstance(metric, str) and metric.lower().replace("_", "") == "binaryaccuracy"
        given = isinstance(metric, keras.metrics.BinaryAccuracy)
        if named or (given and metric.get_config()["threshold"] != 0):
            raise UserError(
                "Binary accuracy compares an output with 0.5, which is right for a probability. "
                "Received: a classifier that answers with one logit. Use metrics=['accuracy'], "
                "which compares a logit with 0."
            )


def with_own_accuracy(metrics: Any) -> Any:
    """Metrics as `compile` takes them, with `ClassifierAccuracy` for "accuracy" and "acc"."""

    def own(metric: Any) -> Any:
        named = isinstance(metric, str) and metric.lower() in ("accuracy", "acc")
        return ClassifierAccuracy(metric) if named else metric

    return keras.tree.map_structure(own, metrics)
