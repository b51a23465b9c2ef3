"""What a compiled Keras loss means for an attack: one loss per example, and its labels."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pnil_tf.errors import UserError
from pnil_tf.keras_internals import operation_of


def example_loss(loss: Any) -> Callable[[Any, Any], Any]:
    """Returns `(labels, outputs) -> float32 (batch,)` for a loss as `compile` takes it.

    Args:
        loss: A Keras loss object, its name, or a function `(y_true, y_pred)` that returns one
            value per example.

    Raises:
        UserError: If no loss is given, or losses for several outputs.
    """
    if isinstance(loss, (list, tuple, dict)):
        raise UserError(
            "Adversarial training needs a classifier with one output and one loss. Received: "
            f"a {type(loss).__name__} of losses. Pass the loss of the output that classifies."
        )
    if loss is None:
        raise UserError(
            "Adversarial training needs a loss of labels and predictions to attack. Received: "
            "loss=None. Pass one, for example keras.losses.SparseCategoricalCrossentropy("
            "from_logits=True)."
        )
    loss = keras.losses.get(loss)
    function = loss.call if isinstance(loss, keras.losses.Loss) else loss

    def per_example(labels: Any, outputs: Any) -> Any:
        values = tf.cast(function(labels, tf.cast(outputs, tf.float32)), tf.float32)
        if values.shape.rank == 0:
            raise UserError(
                "Adversarial training needs a loss with one value per example. Received: "
                f"{loss!r}, which returns a single number. Leave the averaging to Keras."
            )
        return tf.reduce_sum(tf.reshape(values, [tf.shape(outputs)[0], -1]), axis=1)

    return per_example


def expects_logits(loss: Any) -> bool | None:
    """Whether a loss takes logits (not probabilities), or `None` where it does not say."""
    loss = keras.losses.get(loss)
    if isinstance(loss, keras.losses.Loss):
        return loss.get_config().get("from_logits")
    # A plain function: Keras' own have a default that says it.
    parameter = inspect.signature(loss).parameters.get("from_logits")
    return None if parameter is None else parameter.default


def check_outputs(classifier: keras.Model, loss: Any) -> None:
    """Refuses a loss that expects logits from a model of probabilities, or the reverse.

    Only what can be known is refused: the last layer must say its activation, and the loss
    whether it expects logits.

    Raises:
        UserError: If the two contradict each other.
    """
    from_logits, activation = expects_logits(loss), _last_activation(classifier)
    if from_logits is None or activation is None:
        return
    if from_logits and activation in ("softmax", "sigmoid"):
        raise UserError(
            f"The loss expects logits, but the classifier ends in {activation}. Received: "
            f"{loss!r}. Drop the last activation (best: gradients do not saturate) or use "
            "from_logits=False."
        )
    if not from_logits and activation == "linear":
        raise UserError(
            "The loss expects probabilities, but the classifier ends in logits (no activation). "
            f"Received: {loss!r}. Pass a loss object with from_logits=True, for example "
            "keras.losses.SparseCategoricalCrossentropy(from_logits=True)."
        )


def check_labels(labels: np.ndarray, loss: Any, classes: int | None) -> None:
    """Refuses labels that a cross-entropy of several classes cannot take.

    Args:
        labels: All labels of a training.
        loss: A loss as `compile` takes it.
        classes: The number of the classifier's outputs, if known.

    Raises:
        UserError: If the labels have the other form, or name a class that does not exist.
    """
    name = getattr(keras.losses.get(loss), "name", None) or loss
    if classes is None or classes < 2:
        return
    one_hot = labels.ndim == 2 and labels.shape[1] == classes
    if name == "sparse_categorical_crossentropy":
        if one_hot:
            raise UserError(
                f"The loss takes integer labels (batch,). Received: shape {labels.shape}. Use "
                "CategoricalCrossentropy, or pass labels.argmax(axis=1)."
            )
        low, high = labels.min(), labels.max()
        if not (low >= 0 and high < classes):
            raise UserError(
                f"Labels of {classes} classes lie between 0 and {classes - 1}. Received: values "
                f"from {low} to {high}. Correct the labels, or give the classifier more outputs."
            )
    if name == "categorical_crossentropy" and not one_hot:
        raise UserError(
            f"The loss takes one-hot labels (batch, {classes}). Received: shape {labels.shape}. "
            "Use SparseCategoricalCrossentropy for integer labels."
        )


def _last_activation(model: Any) -> str | None:
    """The activation of the layer that makes the output, where the model says which it is."""
    if isinstance(model, keras.Sequential):
        return _last_activation(model.layers[-1]) if model.layers else None
    if isinstance(model, keras.Model):
        outputs = getattr(model, "outputs", None)
        # A subclassed model has no symbolic output and does not say which layer comes last.
        if not outputs or len(outputs) != 1:
            return None
        return _last_activation(operation_of(outputs[0]))
    if isinstance(model, keras.layers.Softmax):
        return "softmax"
    return getattr(getattr(model, "activation", None), "__name__", None)


def correct(labels: Any, outputs: Any, threshold: float = 0.5) -> Any:
    """Returns float32 `(batch,)`: 1 where the prediction is right.

    Args:
        labels: Integers `(batch,)` or `(batch, 1)`, or one-hot `(batch, classes)`.
        outputs: Logits or probabilities `(batch, classes)`, or `(batch, 1)` for two classes.
        threshold: With `(batch, 1)` outputs, what class 1 must exceed: 0 for logits.
    """
    classes = outputs.shape[-1]
    if classes == 1:
        predicted = tf.cast(outputs[:, 0] > threshold, tf.int32)
    else:
        predicted = tf.argmax(outputs, axis=-1, output_type=tf.int32)
    if labels.shape.rank == 2 and labels.shape[-1] == classes and classes > 1:
        labels = tf.argmax(labels, axis=-1)
    labels = tf.cast(tf.reshape(labels, [-1]), tf.int32)
    return tf.cast(predicted == labels, tf.float32)
