"""What the output of a classifier is, and the logits behind it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from pnil_tf.contract.trace import SAME_VALUES, Trace
from pnil_tf.errors import UserError, argument
from pnil_tf.keras_internals import attached_logits
from pnil_tf.tensors import Answers, Logits, Operation, Tensor
from pnil_tf.vocabulary import OUTPUT_KINDS

KINDS = OUTPUT_KINDS
LOGITS, PROBABILITIES, LOGIT, PROBABILITY, INDEPENDENT = KINDS

Answer = Callable[[Logits], Answers]
"""Logits -> what a model answers with them."""

_ACTIVATIONS = {PROBABILITIES: "softmax", PROBABILITY: "sigmoid", INDEPENDENT: "sigmoid"}
_FOUND = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
# What one of these makes is a score: no probability comes from it.
_SCORES = frozenset(("Conv2D", "FusedBatchNormV3", "LogSoftmax", "MatMul"))
# These make a score of a score, if nothing comes behind: (tanh + 1) / 2 is a probability.
_BENT = frozenset(("Elu", "Relu", "Softplus", "Softsign", "Tanh"))
# What one of these makes is a score only where everything is that it is made of: the mean of
# probabilities is a probability.
_MIXTURES = SAME_VALUES | {
    *("AddN", "AddV2", "BatchMatMulV2", "BiasAdd", "ConcatV2", "Einsum", "Max", "Mean", "Mul"),
    *("Neg", "Pack", "RealDiv", "Sub", "Sum", "Transpose"),
}
_CONSTANTS = frozenset(("Const", "Placeholder", "ReadVariableOp"))
_CLIPS: dict[str, tuple[float, ...]] = {
    "ClipByValue": (0.0, 1.0),
    "Maximum": (0.0,),
    "Minimum": (1.0,),
}
"""The ends between which probabilities lie, in the order in which a clip names them."""
_BARELY = 1e-3
"""How far from 0 and from 1 a clip of probabilities may stand that is there for the logarithm."""
_SMALLEST = np.finfo(np.float32).tiny
_SMALLEST_REST = 2.0**-25
"""Half of the smallest difference between 1 and a float32 below it."""


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What a classifier answers.

    Args:
        kind: One of `KINDS`. "One logit" and "one probability" are those of class 1 of two;
            "independent probabilities" are sigmoids of several classes, of which the largest is
            the answer.
        count: Numbers for each image, at least 1.
        exact: Whether the logits themselves are read from the graph. Otherwise the logarithm of
            the probabilities stands for them: equal up to a constant for each image, which no
            loss sees, but a probability that has underflowed has lost its gradient.
    """

    kind: str
    count: int
    exact: bool = True

    @property
    def classes(self) -> int:
        """Number of classes, at least 2."""
        return max(self.count, 2)

    @property
    def activation_name(self) -> str | None:
        """`"softmax"`, `"sigmoid"`, or `None` where the output is logits."""
        return _ACTIVATIONS.get(self.kind)

    def logits(self, outputs: Answers) -> Logits:
        """The logits behind outputs, float32 `(batch, count)`; gradients pass through.

        Args:
            outputs: What the classifier returned just now: the activation is looked for in the
                graph in which they stand.
        """
        name = self.activation_name
        logits = outputs if name is None else None
        if logits is None:
            logits = _behind(outputs, name)
        if logits is None:
            logits = _logarithm(tf.cast(outputs, tf.float32), name)
        logits = tf.cast(logits, tf.float32)
        if logits.shape.rank != 2:  # a reshape stood behind the activation
            logits = tf.reshape(logits, [-1, self.count])
        return tf.ensure_shape(logits, [None, self.count])

    def activation(self, logits: Logits) -> Answers:
        """What the classifier answers where its logits are these; Keras' losses see both."""
        if self.activation_name is None:
            return logits
        return getattr(keras.activations, self.activation_name)(logits)

    def per_class(self, logits: Logits) -> Logits:
        """Logits of every class, float32 `(batch, classes)`: of one output z they are `[0, z]`."""
        if self.count > 1:
            return logits
        return tf.concat([tf.zeros_like(logits), logits], axis=1)


def outputs_of(
    trace: Trace,
    examples: Callable[[], np.ndarray],
    kind: str | None = None,
    probabilities: bool = False,
) -> Outputs:
    """Finds out what the outputs of a classifier are.

    Args:
        trace: The classifier in a graph; its outputs are `(batch, count)`.
        examples: Computes the outputs for a few images, float32 `(n, count)`; it is called only
            where no softmax or sigmoid is found at the end of the graph.
        kind: What the user says they are, one of `KINDS`.
        probabilities: As for `outputs_by_value`.

    Raises:
        UserError: If nothing tells a logit from a probability, or the user says what cannot be.
    """
    count = trace.outputs.shape[-1]
    found = found_activation(trace.outputs)
    if found is None:
        values = examples()
        # A product of probabilities with a matrix may be probabilities again.
        if kind is None and _is_score(trace.outputs) and not _sum_to_one(values):
            return Outputs(LOGITS if count > 1 else LOGIT, count)
        return outputs_by_value(values, kind, probabilities)
    if found[0] == "softmax" and count == 1:
        raise UserError(
            "A softmax over one output is always 1. Received: a classifier with one output and a "
            "softmax. Use a sigmoid, or two outputs."
        )
    own = PROBABILITIES if found[0] == "softmax" else INDEPENDENT
    own = own if count > 1 else PROBABILITY
    if kind not in (None, own):
        raise UserError(
            f"The classifier ends in a {found[0]}, so its outputs are {own!r}. Received: "
            f"{argument('outputs', kind)}. Leave it out."
        )
    return Outputs(own, count)


def outputs_by_value(
    examples: np.ndarray, kind: str | None = None, probabilities: bool = False
) -> Outputs:
    """As `outputs_of` where no graph shows where the outputs come from.

    Args:
        examples: Outputs for a few images, float32 `(n, count)`.
        kind: What the user says they are, one of `KINDS`.
        probabilities: Whether numbers between 0 and 1 are probabilities, as a loss may say.

    Raises:
        UserError: If nothing tells a logit from a probability, or the user says what cannot be.
    """
    count = examples.shape[1]
    low, high = float(examples.min()), float(examples.max())
    within = low >= 0 and high <= 1
    if kind is not None:
        _check_kind(kind, count, within)
        return Outputs(kind, count, exact=kind in (LOGITS, LOGIT))
    if _sum_to_one(examples):
        return Outputs(PROBABILITIES, count, exact=False)
    if not within:
        return Outputs(LOGITS if count > 1 else LOGIT, count)
    logits, of_each = (LOGITS, INDEPENDENT) if count > 1 else (LOGIT, PROBABILITY)
    if probabilities:
        return Outputs(of_each, count, exact=False)
    raise UserError(
        "Nothing tells whether the classifier answers with logits or with probabilities. Received: "
        f"{count} {'outputs' if count > 1 else 'output'} for each image, with values from "
        f"{low:.3g} to {high:.3g}. Say which: {argument('outputs', logits)} or "
        f"{argument('outputs', of_each)}."
    )


def _check_kind(kind: str, count: int, within: bool) -> None:
    if (kind in (LOGIT, PROBABILITY)) != (count == 1):
        raise UserError(
            f"The classifier has {count} {'outputs' if count > 1 else 'output'} for each image. "
            f"Received: {argument('outputs', kind)}. Choose one of "
            f"{', '.join(repr(k) for k in KINDS if (k in (LOGIT, PROBABILITY)) == (count == 1))}."
        )
    if kind in _ACTIVATIONS and not within:
        raise UserError(
            "Probabilities lie between 0 and 1, but the classifier answers with other numbers, "
            f"too. Received: {argument('outputs', kind)}. Leave it out, or correct it."
        )


def split(outputs: Answers) -> tuple[Logits, Answer]:
    """Takes what a model answered apart: logits, and what makes the answer of them.

    A loss of Keras looks past a softmax or sigmoid, to the tensor that it was made of. Whoever
    wants the gradient of a loss must start from that tensor: seen from the answer itself, such a
    loss does not depend on it.

    Args:
        outputs: What a model returned just now, logits or probabilities `(batch, count)`.

    Returns:
        float32 logits (the outputs themselves, where no activation is found behind them), and a
        function from these to the outputs.
    """
    if tf.is_symbolic_tensor(outputs):
        name, logits = found_activation(outputs) or (None, None)
    else:
        logits, name = attached_logits(outputs), None
        if logits is not None:
            several = outputs.shape[-1] > 1 and _sum_to_one(np.asarray(outputs, np.float32))
            name = "softmax" if several else "sigmoid"
    if name is None or logits is None or logits.shape.rank != outputs.shape.rank:
        return tf.identity(tf.cast(outputs, tf.float32)), lambda values: values
    return tf.cast(logits, tf.float32), getattr(keras.activations, name)


def found_activation(outputs: Answers) -> tuple[str, Logits] | None:
    """The softmax or sigmoid that made a symbolic tensor, and the logits it was made of.

    Casts, reshapes and layers that change nothing may stand behind the activation.

    Args:
        outputs: A tensor of a graph.
    """
    operation = _maker(outputs, clipped=True)
    name = _FOUND.get(operation.type)
    if name is None:
        return None
    logits = operation.inputs[0]
    # A softmax of whole maps is none of classes, whatever shape it is given afterwards.
    if name == "softmax" and logits.shape[-1] != outputs.shape[-1]:
        return None
    return name, logits


def _maker(tensor: Tensor, clipped: bool = False) -> Operation:
    """The operation that made a tensor's numbers.

    Args:
        tensor: Of a graph.
        clipped: Whether a clip that changes hardly a probability is looked through, too.
    """
    while tensor.op.inputs and (
        tensor.op.type in SAME_VALUES or (clipped and _hardly_clips(tensor.op))
    ):
        source = tensor.op.inputs[0]
        if not source.dtype.is_floating:
            break
        tensor = source
    return tensor.op


def _hardly_clips(operation: Operation) -> bool:
    if operation.type not in _CLIPS:
        return False
    bounds = [tf.get_static_value(bound) for bound in operation.inputs[1:]]
    return all(
        bound is not None and np.size(bound) == 1 and abs(bound - end) <= _BARELY
        for bound, end in zip(bounds, _CLIPS[operation.type], strict=True)
    )


def _is_score(tensor: Tensor) -> bool:
    """Whether a tensor consists of scores, as the graph shows."""
    last = _maker(tensor)
    start = last.inputs[0].op if last.type in _BENT else tensor.op
    waiting, seen, scores = [start], set(), False
    while waiting:
        operation = waiting.pop()
        if operation.name in seen:
            continue
        seen.add(operation.name)
        if operation.type in _SCORES:
            scores = True
        elif operation.type in _MIXTURES:
            waiting.extend(value.op for value in operation.inputs)
        elif operation.type not in _CONSTANTS:
            return False
    return scores


def _behind(outputs: Answers, name: str | None) -> Logits | None:
    if tf.is_symbolic_tensor(outputs):
        found = found_activation(outputs)
        return found[1] if found and found[0] == name else None
    return attached_logits(outputs)


def _sum_to_one(outputs: np.ndarray) -> bool:
    return bool(
        outputs.shape[1] > 1
        and outputs.min() >= 0
        and np.abs(outputs.sum(axis=1, dtype=np.float64) - 1).max() < 1e-3
    )


def _logarithm(probabilities: Answers, name: str | None) -> Logits:
    logarithm = tf.math.log(tf.maximum(probabilities, _SMALLEST))
    if name == "softmax":
        return logarithm
    return logarithm - tf.math.log(tf.maximum(1.0 - probabilities, _SMALLEST_REST))
