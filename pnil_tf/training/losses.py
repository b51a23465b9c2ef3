"""What a compiled Keras loss means for an attack: one loss per example."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from pnil_tf.contract.outputs import LOGIT, Outputs
from pnil_tf.errors import UserError, argument
from pnil_tf.keras_internals import LossFunctionWrapper
from pnil_tf.tensors import Labels, PerImage, Tensor
from pnil_tf.training.labels import are_rows

# Names of Keras' losses by the kind of output they fit.
_NO_CLASSIFICATION = {"circle", "ctc", "dice", "tversky"}
_OF_PROBABILITIES = {"categorical_generalized_cross_entropy", "kl_divergence", "poisson"}
_OF_SIGMOIDS = {"binary_crossentropy", "binary_focal_crossentropy"}
_OF_SEVERAL = {
    *("categorical_crossentropy", "categorical_focal_crossentropy", "categorical_hinge"),
    *("categorical_generalized_cross_entropy", "sparse_categorical_crossentropy"),
}
_OF_NUMBERS = {
    *("cosine_similarity", "huber", "log_cosh", "mean_absolute_error"),
    *("mean_absolute_percentage_error", "mean_squared_error", "mean_squared_logarithmic_error"),
}
_CLASSES = {
    "binary_crossentropy": "BinaryCrossentropy",
    "binary_focal_crossentropy": "BinaryFocalCrossentropy",
    "categorical_crossentropy": "CategoricalCrossentropy",
    "categorical_focal_crossentropy": "CategoricalFocalCrossentropy",
}
UserLoss: TypeAlias = str | keras.losses.Loss | Callable[[Labels, Tensor], Tensor] | None
"""A loss as `compile` takes it: its name, an object of Keras', or a function."""

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_CHOSEN_BY_KERAS = {"ce", "crossentropy"}


def example_loss(loss: UserLoss) -> Callable[[Labels, Tensor], PerImage]:
    """Returns `(labels, outputs) -> float32 (batch,)` for a loss as `compile` takes it.

    Labels and outputs of a binary classifier may be `(batch,)` or `(batch, 1)` in any mix, as in
    Keras.

    Args:
        loss: A Keras loss object, its name, or a function `(y_true, y_pred)` that returns one
            value per example.

    Raises:
        UserError: If no loss is given, or losses for several outputs.
    """
    if isinstance(loss, (list, tuple, dict)) and not (
        isinstance(loss, dict) and "class_name" in loss
    ):
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
    if not _is_chosen_by_keras(loss):
        _loss_object(loss)  # a wrong name is said now, not in the middle of a step

    def per_example(labels: Labels, outputs: Tensor) -> PerImage:
        labels, outputs = tf.convert_to_tensor(labels), tf.cast(outputs, tf.float32)
        chosen = _chosen(loss, labels, outputs) if _is_chosen_by_keras(loss) else loss
        function = _loss_object(chosen)
        if labels.shape.rank == 1 and outputs.shape.rank == 2 and outputs.shape[1] == 1:
            labels = labels[:, tf.newaxis]  # a stranger's loss would pair each with every other
        # As Keras does before it calls a loss.
        values = function.call(tf.cast(labels, function.dtype), outputs)
        values = tf.cast(values, tf.float32)
        if values.shape.rank == 0:
            raise UserError(
                "Adversarial training needs a loss with one value per example. Received: "
                f"{shown(loss)}, which returns a single number. Leave the averaging to Keras."
            )
        return tf.reduce_sum(tf.reshape(values, [tf.shape(outputs)[0], -1]), axis=1)

    return per_example


def loss_name(loss: UserLoss) -> str | None:
    """The name of Keras' own function behind a loss, `None` for a stranger's."""
    if _is_chosen_by_keras(loss):
        return None
    loss = keras.losses.get(loss)
    function = getattr(loss, "fn", loss)
    name = getattr(function, "__name__", None)
    return name if name and getattr(keras.losses, name, None) is function else None


def expects_logits(loss: UserLoss) -> bool | None:
    """Whether a loss takes logits (not probabilities), or `None` where it does not say."""
    if _is_chosen_by_keras(loss):
        return False
    found = keras.losses.get(loss)
    if isinstance(found, keras.losses.Loss):
        return found.get_config().get("from_logits")
    # A plain function: Keras' own have a default that says it.
    parameter = inspect.signature(found).parameters.get("from_logits")
    return None if parameter is None else parameter.default


def check_outputs(outputs: Outputs, loss: UserLoss) -> None:
    """Refuses a loss that does not fit what the classifier answers.

    Only what can be known is refused: a stranger's loss passes, with a warning of what it gets.

    Raises:
        UserError: If a loss of logits meets probabilities or the reverse, or Keras' loss is none
            of this kind of classifier.
    """
    name, from_logits, activation = loss_name(loss), expects_logits(loss), outputs.activation_name
    said = shown(loss)
    if name is None and from_logits is None and not _is_chosen_by_keras(loss):
        warnings.warn(
            f"Nothing says whether the loss {said} takes logits or probabilities. It gets "
            f"what the classifier answers: {outputs.kind}. If it takes the other, the training and "
            "adversarial_accuracy are wrong.",
            stacklevel=2,
        )
    if name in _NO_CLASSIFICATION:
        raise UserError(
            f"{name} is not a loss for a classifier of images. Received: "
            f"{said}. Use a cross-entropy."
        )
    if _ignores_a_class(loss):
        raise UserError(
            "A loss with ignore_class leaves images out, and an accuracy that counts them says "
            f"nothing. Received: {said}. Leave these images out of the data."
        )
    if from_logits and activation:
        raise UserError(
            f"The loss expects logits, but the classifier ends in {activation}. Received: "
            f"{said}. Use from_logits=False, or drop the last activation."
        )
    if from_logits is False and activation is None:
        raise UserError(
            "The loss expects probabilities, but the classifier ends in logits (no activation). "
            f"Received: {said}. Use {_of_logits(loss, outputs)}(from_logits=True) from "
            "keras.losses."
        )
    if name in _OF_SIGMOIDS and activation == "softmax":
        raise UserError(
            "The loss judges each output by itself, and Keras would read the logits of a softmax "
            f"as those of sigmoids. Received: {said}, and a classifier that ends in softmax. Use "
            "CategoricalCrossentropy."
        )
    if name in _OF_PROBABILITIES and activation is None:
        raise UserError(
            "The loss expects probabilities, but the classifier ends in logits (no activation). "
            f"Received: {said}. Let the classifier end in a softmax, or use a cross-entropy with "
            "from_logits=True."
        )
    if name in _OF_SEVERAL and outputs.count == 1:
        raise UserError(
            "The loss is one of several classes, but the classifier has one output. Received: "
            f"{said}. Use BinaryCrossentropy, or give the classifier an output for each class."
        )
    if name == "cosine_similarity" and outputs.count == 1:
        raise UserError(
            "The loss is a cosine, and that of single numbers is their sign, which has no slope. "
            "Received: "
            f"{said} for a classifier with one output. Use BinaryCrossentropy."
        )
    if outputs.kind == LOGIT and name in _OF_NUMBERS:
        raise UserError(
            "The loss makes the one output a number without bounds, and nothing says from where "
            f"on it means class 1. Received: {said}. Let the classifier end in a sigmoid, or use "
            "BinaryCrossentropy(from_logits=True)."
        )


def check_border(outputs: Outputs, loss: Any) -> None:
    """Refuses one output as a logit, which is class 1 above 0, where it was not trained to be one.

    Args:
        outputs: What the classifier answers, as far as its graph tells.
        loss: What it was compiled with, if it was.

    Raises:
        UserError: If that loss is one of numbers, or of probabilities.
    """
    loss = single_loss(loss)
    if outputs.kind != LOGIT or loss is None:
        return
    try:
        unfit = loss_name(loss) in _OF_NUMBERS or expects_logits(loss) is False
        said = shown(loss)
    except (TypeError, ValueError):  # not one loss, or one that only its user knows
        return
    if unfit:
        raise UserError(
            "The model has one output, without a sigmoid, and the loss that it was compiled with "
            "does not make 0 the border between its two classes. Received: "
            f"{said}. Let the model end in a sigmoid, or say {argument('outputs', LOGIT)} if it "
            "means class 1 above 0."
        )


def single_loss(loss: Any) -> Any:
    """The loss out of a list, or a dictionary by the names of outputs, of a single one."""
    if isinstance(loss, dict) and "class_name" not in loss:
        loss = list(loss.values())
    return loss[0] if isinstance(loss, list | tuple) and len(loss) == 1 else loss


def shown(loss: UserLoss) -> str:
    """What an error calls a loss: as its user wrote it, as far as that can be told."""
    if isinstance(loss, str):
        return repr(loss)
    found = keras.losses.get(loss)
    if type(found) is LossFunctionWrapper:
        found = found.fn
    if not isinstance(found, keras.losses.Loss):
        return getattr(found, "__name__", type(found).__name__)
    config = found.get_config()
    names = ("from_logits", "ignore_class")
    said = [f"{name}={config[name]}" for name in names if config.get(name) is not None]
    return f"{type(found).__name__}({', '.join(said)})"


def _of_logits(loss: UserLoss, outputs: Outputs) -> str:
    """The name of the loss class that takes logits and is nearest to a loss of probabilities."""
    name = loss_name(loss) or ""
    if outputs.count == 1:
        return f"Binary{'Focal' * ('focal' in name)}Crossentropy"
    return _CLASSES.get(name, "SparseCategoricalCrossentropy")


def _loss_object(loss: UserLoss) -> keras.losses.Loss:
    """The loss as Keras calls it: a function is wrapped, which aligns the ranks."""
    try:
        found = keras.losses.get(loss)
    except ValueError as error:
        raise UserError(f"Keras knows no such loss. Received: {loss!r}.") from error
    if isinstance(found, keras.losses.Loss):
        return found
    more = [
        name
        for name, parameter in list(inspect.signature(found).parameters.items())[2:]
        if parameter.default is parameter.empty and parameter.kind not in _VARIADIC
    ]
    if more:
        raise UserError(
            f"The loss needs more than labels and predictions: {', '.join(more)}. Received: "
            f"{shown(loss)}. Pass a loss object that holds it, from keras.losses or your own."
        )
    return LossFunctionWrapper(found)


def _is_chosen_by_keras(loss: UserLoss) -> bool:
    return isinstance(loss, str) and loss.lower() in _CHOSEN_BY_KERAS


def _chosen(loss: UserLoss, labels: Labels, outputs: Tensor) -> str:
    """The cross-entropy that Keras takes for the name of all of them."""
    if outputs.shape[-1] == 1:
        return "binary_crossentropy"
    rows = are_rows(labels, outputs.shape[-1])
    return "categorical_crossentropy" if rows else "sparse_categorical_crossentropy"


def _ignores_a_class(loss: UserLoss) -> bool:
    if _is_chosen_by_keras(loss):
        return False
    loss = keras.losses.get(loss)
    return isinstance(loss, keras.losses.Loss) and loss.get_config().get("ignore_class") is not None
