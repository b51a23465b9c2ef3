"""The accuracy that `compile(metrics=["accuracy"])` means for a classifier."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from pnil_tf.contract.outputs import PROBABILITY, Outputs
from pnil_tf.errors import UserError
from pnil_tf.tensors import Tensor
from pnil_tf.training.labels import Labels
from pnil_tf.training.types import UserMetric, UserMetrics


@keras.saving.register_keras_serializable(package="pnil_tf")
class ClassifierAccuracy(keras.metrics.Mean):
    """Share of images whose class is right, by the rule of `adversarial_accuracy`.

    Keras' own asks whether a single output is above 0.5, which is right for a probability and
    wrong for a logit, and compares the labels -1 and 1 of hinge losses with 0 and 1.

    Args:
        name: Name of the metric.
        dtype: As for `keras.metrics.Mean`.
    """

    def __init__(self, name: str = "accuracy", dtype: str | None = None) -> None:
        super().__init__(name, dtype)
        self._labels: Labels | None = None
        self._border = 0.0

    def settle(self, labels: Labels, outputs: Outputs) -> None:
        """Says how labels and outputs are read; before the first update."""
        self._labels = labels
        self._border = 0.5 if outputs.kind == PROBABILITY else 0.0

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        """Takes in a batch: labels as the loss takes them, the outputs `(batch, count)`."""
        if self._labels is None:
            raise ValueError("This accuracy belongs to the `compile` of an AdversarialModel.")
        outputs = keras.ops.cast(y_pred, "float32") - self._border
        super().update_state(self._labels.correct(y_true, outputs), sample_weight)


def check_thresholds(metrics: Sequence[UserMetric], outputs: Outputs) -> None:
    """Refuses a metric that takes logits for probabilities.

    Args:
        metrics: As `compile` takes them, flat.
        outputs: What the classifier answers.

    Raises:
        UserError: If so.
    """
    for metric in metrics if outputs.activation_name is None else []:
        if _takes_probabilities(metric):
            name = metric if isinstance(metric, str) else type(metric).__name__
            raise UserError(
                f"The metric {name} takes outputs for probabilities, as it is set here, "
                f"and the classifier answers with {outputs.kind}. Use metrics=['accuracy'], "
                "set from_logits=True or the threshold 0 where the metric can be, or let the "
                "classifier end in its activation."
            )


def _takes_probabilities(metric: UserMetric) -> bool:
    """Whether one of Keras' metrics means nothing of logits; a stranger's is never refused."""
    if isinstance(metric, str):
        try:
            metric = keras.metrics.get(metric)
        except ValueError:
            return False  # Keras says it
    if getattr(metric, "__name__", "") == "binary_accuracy":
        return True
    of_keras = type(metric).__module__.partition(".")[0] == "keras"
    if not (of_keras and isinstance(metric, keras.metrics.Metric)):
        return False
    config = metric.get_config()
    if "from_logits" in config:
        return not config["from_logits"]
    if "thresholds" in config:  # None is 0.5, unless the largest outputs count
        return config["thresholds"] not in (0, [0]) and not config.get("top_k")
    if "num_thresholds" in config:
        return True
    return bool(config.get("threshold"))  # 0, or None for the largest output


def with_own_accuracy(metrics: UserMetrics) -> UserMetrics:
    """Metrics as `compile` takes them, with `ClassifierAccuracy` for "accuracy" and "acc"."""

    def own(metric: UserMetric) -> UserMetric:
        if isinstance(metric, str) and metric.lower() in ("accuracy", "acc"):
            return ClassifierAccuracy(metric)
        return metric

    return keras.tree.map_structure(own, metrics)
