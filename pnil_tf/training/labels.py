"""Labels as a loss takes them, and the classes that they name."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from pnil_tf.errors import UserError
from pnil_tf.tensors import Logits, PerImage, Scalar, Tensor

_HINGES = {"hinge", "squared_hinge"}
_OF_NUMBERED_CLASSES = {"categorical_generalized_cross_entropy", "sparse_categorical_crossentropy"}
_ROUNDING = 1e-3


def are_rows(labels: Tensor, count: int) -> bool:
    """Whether labels are rows with a number for each of `count` > 1 classes, not class numbers."""
    return count > 1 and len(labels.shape) == 2 and labels.shape[1] == count


@dataclasses.dataclass(frozen=True)
class Labels:
    """How the labels of a training are read.

    Args:
        count: Numbers that the classifier answers for each image; with 1 there are two classes.
        loss: The name of Keras' own loss, `None` for a stranger's.
    """

    count: int
    loss: str | None

    def check_form(self, labels: Tensor) -> None:
        """Refuses labels of another shape or type than the loss takes.

        Args:
            labels: An array or a tensor, symbolic or not; its values are not looked at.

        Raises:
            UserError: If so.
        """
        shape = tuple(labels.shape)
        dtype = tf.as_dtype(labels.dtype)
        if not (dtype.is_floating or dtype.is_integer or dtype.is_bool):
            raise UserError(
                f"Labels are numbers. Received: labels of the type {dtype.name}. Number the "
                "classes, for example by keras.layers.StringLookup or numpy.unique("
                "labels, return_inverse=True)."
            )
        one_hot = are_rows(labels, self.count)
        numbers = len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)
        if self.loss in _OF_NUMBERED_CLASSES and one_hot:
            raise UserError(
                f"The loss takes integer labels (batch,). Received: shape {shape}. Use "
                "CategoricalCrossentropy, or pass labels.argmax(axis=1)."
            )
        if self.count > 1 and self.loss not in (None, *_OF_NUMBERED_CLASSES):
            if not one_hot:
                raise UserError(
                    f"The loss takes one-hot labels (batch, {self.count}). Received: shape "
                    f"{shape}. Use SparseCategoricalCrossentropy for integer labels."
                )
        elif not (one_hot or numbers):
            rows = f", or one-hot rows of {self.count}" if self.count > 1 else ""
            advice = " Pass labels.argmax(axis=1)." if self.count == 1 and len(shape) == 2 else ""
            raise UserError(
                f"The labels of a classifier are one number for each image{rows}. Received: shape "
                f"{shape} for {self.count} output{'s' if self.count > 1 else ''}.{advice}"
            )

    def beside_outputs(self, labels: Tensor) -> Tensor:
        """Labels of as many axes as the outputs have where there is one, or of a known number.

        Labels `(batch,)` beside outputs `(batch, 1)` are paired each with every other, by Keras
        too, in losses and metrics that are not Keras' own.

        Raises:
            UserError: If a graph has forgotten how many axes there are, and a stranger's loss
                leaves open which it is.
        """
        if labels.shape.rank is not None:
            one_column = self.count == 1 and labels.shape.rank == 1
            return labels[:, tf.newaxis] if one_column else labels
        if self.count > 1 and self.loss is None:
            raise UserError(
                "The labels come without a known number of axes. Give "
                "the data set's generator an output_signature, or use tf.ensure_shape."
            )
        numbers = self.count == 1 or self.loss in _OF_NUMBERED_CLASSES
        return tf.reshape(labels, [-1, 1 if numbers else self.count])

    def classes(self, labels: Tensor) -> PerImage:
        """The number of each image's class, int32 `(batch,)`."""
        if are_rows(labels, self.count):
            return tf.argmax(labels, axis=-1, output_type=tf.int32)
        labels = tf.reshape(labels, [-1])
        if self.count == 1:  # -1 and 1 (hinge), 0 and 1, or shares of class 1
            middle = 0.0 if self.loss in _HINGES else 0.5
            return tf.cast(tf.cast(labels, tf.float32) > middle, tf.int32)
        return tf.cast(labels, tf.int32)

    def of_each_class(self, like: Tensor) -> Tensor:
        """One label of each class, in the form and the type of others."""
        count = max(self.count, 2)
        numbers = tf.range(count)
        if are_rows(like, self.count):
            numbers = tf.eye(count, dtype=tf.int32)
        elif len(like.shape) == 2:
            numbers = numbers[:, tf.newaxis]
        if self.loss in _HINGES:  # -1 and 1
            numbers = 2 * numbers - 1
        return tf.cast(numbers, like.dtype)

    def correct(self, labels: Tensor, logits: Logits) -> PerImage:
        """Whether each prediction is right, 1 or 0, float32 `(batch,)`.

        Args:
            labels: As the loss takes them.
            logits: float32 `(batch, count)`; one logit speaks for class 1 where it is above 0.
        """
        if self.count == 1:
            predicted = tf.cast(logits[:, 0] > 0.0, tf.int32)
        else:
            predicted = tf.argmax(logits, axis=-1, output_type=tf.int32)
        return tf.cast(predicted == self.classes(labels), tf.float32)

    def extremes(self, labels: Tensor) -> tuple[Scalar, Scalar, Scalar]:
        """Smallest and largest label, and 1.0 where a label names no class: float32 scalars."""
        values = tf.cast(labels, tf.float32)
        low, high = tf.reduce_min(values), tf.reduce_max(values)
        if are_rows(labels, self.count):
            if self.loss in _HINGES:
                odd = tf.reduce_sum(tf.cast(values > 0, tf.float32), axis=1) != 1.0
            else:
                odd = tf.abs(tf.reduce_sum(values, axis=1) - 1.0) > _ROUNDING
                odd |= tf.reduce_min(values, axis=1) < -_ROUNDING
        elif self.count == 1:
            odd = (values < (-1.0 if self.loss in _HINGES else 0.0)) | (values > 1.0)
        else:
            odd = (values < 0) | (values > self.count - 1) | (values != tf.floor(values))
        odd |= tf.math.is_nan(tf.reduce_sum(values))
        return low, high, tf.cast(tf.reduce_any(odd), tf.float32)

    def check_values(self, rows: bool, low: float, high: float, odd: bool) -> None:
        """Refuses labels that name no class.

        Args:
            rows: As `are_rows` says of them.
            low: As from `extremes`.
            high: As from `extremes`.
            odd: As from `extremes`.

        Raises:
            UserError: If so.
        """
        if not odd:
            return
        if rows:
            raise UserError(
                "Each image belongs to one class here, so the rows of the labels name one each. "
                f"Received: rows that name several or none (values from {low:g} to {high:g}). "
                "Several labels for one image are not supported."
            )
        if self.count == 1:
            raise UserError(
                "The labels of a classifier with one output are 0 and 1 (-1 and 1 with a hinge "
                f"loss). Received: values from {low:g} to {high:g}. Correct the labels, or give "
                "the classifier more outputs."
            )
        raise UserError(
            f"Labels of {self.count} classes lie between 0 and {self.count - 1}. Received: values "
            f"from {low:g} to {high:g}. Correct the labels, or give the classifier more outputs."
        )
