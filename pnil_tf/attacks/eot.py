"""Expectation over transformation (EOT): gradients averaged over the model's own noise.

A stochastic classifier defines a distribution of losses. Its input gradient is estimated by
averaging over independent draws (Athalye et al. 2018, "Synthesizing Robust Adversarial
Examples"; the paper uses 100 draws in its attacks). Means are over the draws that have a value:
a draw that answers NaN says nothing about a direction, and must not silence the others.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import tensorflow as tf

from pnil_tf import rng
from pnil_tf.contract.outputs import Answer, split
from pnil_tf.errors import UserError
from pnil_tf.tensors import Images, Labels, Logits, PerImage, Scalar, Seed, Tensor
from pnil_tf.vocabulary import AVERAGES

# In one stack of draws of one image. Larger images keep every core at work by themselves, and
# their stacks would not fit into memory.
_VALUES_STACKED = 2**16
# Of 2. In the middle of what float16 can hold, whether a network shrinks or enlarges its gradients.
_SLOPE_EXPONENT = 4.0

Predict = Callable[[Images], Logits]
"""Images `(batch, ...)` -> logits `(batch, classes)`, one draw of the noise per call."""

Loss = Callable[[Labels, Logits], PerImage]
"""`(labels, logits)` -> float32 losses `(batch,)`; the attacks make it large."""


@dataclasses.dataclass(frozen=True)
class EOT:
    """How a gradient is averaged over draws.

    Args:
        draws: Number of draws of the noise, at least 1.
        chunk: Most draws stacked in one forward pass, fewer where images are large: more use a
            device better, and memory grows with them. The gradient does not depend on it.
        antithetic: Whether draws come in pairs with the same noise and opposite sign, which
            cancels the odd part of the gradient's error at no cost.
        average: `"loss"` averages the losses over the draws; `"logits"` averages the logits
            and takes the loss of the average.
    """

    draws: int = 1
    chunk: int = 1
    antithetic: bool = False
    average: str = "loss"

    def __post_init__(self) -> None:
        for name in ("draws", "chunk"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise UserError(f"EOT needs {name} >= 1, a whole number. Received: {value!r}.")
        if self.average not in AVERAGES:
            raise UserError(
                f"EOT averages over 'loss' or 'logits'. Received: average={self.average!r}."
            )


def cross_entropy(labels: Labels, logits: Logits) -> PerImage:
    """Softmax cross-entropy of integer labels `(batch,)` and logits `(batch, classes)`."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, tf.cast(logits, tf.float32))


class _Draws:
    """Draws of a classifier's noise, run in stacks and summed.

    Args:
        predict: The classifier.
        x: float32 images `(batch, ...)`; they decide how many draws are stacked.
        seed: int32 seed pair.
        eot: Number and handling of the draws.
        unroll: Whether they become a Python loop.
    """

    def __init__(
        self, predict: Predict, x: Images, seed: Seed, eot: EOT, unroll: bool = False
    ) -> None:
        self._predict, self._seed, self._eot, self._unroll = predict, seed, eot, unroll
        values = x.shape[1:].num_elements() or 1
        self._chunk = min(eot.chunk, eot.draws, max(1, _VALUES_STACKED // values))

    def logits(self, images: Images, first: Scalar, count: int) -> tuple[Logits, Answer]:
        """Logits `(count * batch, classes)` of draws first, first + 1, ... of stacked images.

        And what makes of them what `predict` returned, which the loss sees.
        """
        numbers = [first + i for i in range(count)]
        paired = self._eot.antithetic
        seeds = [rng.fold(self._seed, n // 2 if paired else n) for n in numbers]
        signs = [1.0 - 2.0 * tf.cast(n % 2, tf.float32) for n in numbers] if paired else None
        with rng.noise_scope(*seeds, signs=signs):
            return split(self._predict(images))

    def told(
        self, stacked: Tensor, count: int, also: Tensor | bool = True
    ) -> tuple[Tensor, Tensor]:
        """Sums of the finite numbers of a part's draws, and how many draws have one.

        Args:
            stacked: `(count * batch, ...)`.
            count: Draws of the part.
            also: What else must hold for a number to count, as `stacked` or broadcast to it.

        Returns:
            Two tensors `(batch, ...)`. Of a single draw, the numbers as they are.
        """
        if self._eot.draws == 1:
            return stacked, tf.ones([])
        finite = tf.math.is_finite(stacked) & also
        number = _unstack_sum(tf.cast(finite, tf.float32), count)
        return _unstack_sum(tf.where(finite, stacked, tf.zeros_like(stacked)), count), number

    def mean(self, total: Tensor, number: Tensor) -> Tensor:
        """The mean of what `told` has added up over all draws; NaN where no draw has a number."""
        # Where all draws have one, the bits are those of a division by their number.
        left_out = tf.cast(float(self._eot.draws) / number, total.dtype)
        return total / float(self._eot.draws) * left_out

    def sum(self, part: Callable[[Scalar, int], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Sums `part(first, count)` over all draws, chunk by chunk."""
        chunk = self._chunk
        full, rest = divmod(self._eot.draws, chunk)
        total = part(0, chunk)
        if self._unroll or full == 1:
            for i in range(1, full):
                # One after another: side by side each would hold what its gradient needs.
                with tf.control_dependencies(total):
                    total = _add(total, part(i * chunk, chunk))
        else:
            _, total = tf.while_loop(
                lambda i, _: i < full,
                lambda i, total: (i + 1, _add(total, part(i * chunk, chunk))),
                (1, total),
                parallel_iterations=1,
            )
        if rest:
            with tf.control_dependencies(total):
                total = _add(total, part(full * chunk, rest))
        return total

    def mean_logits(self, x: Images) -> tuple[Logits, Answer]:
        """Mean logits `(batch, classes)` of the draws, and what `logits` returns with each."""
        answers: list[Answer] = []

        def part(first: Scalar, count: int) -> tuple[Tensor, Tensor]:
            logits, answer = self.logits(_stack(x, count), first, count)
            answers.append(answer)
            finite = tf.reduce_all(tf.math.is_finite(logits), axis=-1, keepdims=True)
            return self.told(logits, count, finite)

        return self.mean(*self.sum(part)), answers[0]


def eot_loss(predict: Predict, loss: Loss, x: Images, y: Labels, seed: Seed, eot: EOT) -> PerImage:
    """Returns the mean losses `(batch,)` of the draws that `eot_gradient` takes; no gradient.

    A draw whose loss is not finite does not count; where none is finite the mean is NaN.

    Args:
        predict: The classifier.
        loss: Loss per example; averaged over the draws, whatever `eot.average` says.
        x: float32 images `(batch, ...)`.
        y: Labels, as `loss` takes them.
        seed: int32 seed pair.
        eot: Number and handling of the draws.
    """
    draws = _Draws(predict, x, seed, eot)

    def part(first: Scalar, count: int) -> tuple[Tensor, Tensor]:
        logits, answer = draws.logits(_stack(x, count), first, count)
        return draws.told(loss(_stack(y, count), answer(logits)), count)

    return draws.mean(*draws.sum(part))


def eot_gradient(
    predict: Predict,
    loss: Loss,
    x: Images,
    y: Labels,
    seed: Seed,
    eot: EOT,
    unroll: bool = False,
    alone: bool = True,
) -> tuple[Images, PerImage]:
    """Returns the loss and its gradient with respect to the input, averaged over draws.

    No gradient with respect to any weight is computed. A classifier that computes in float16
    gets the slope of its logits' loss at a size that does not underflow within it: a gradient
    of zeros would have no direction, and the attack would stand still.

    A draw does not count for a pixel where its loss or its slope is not finite; where none
    counts the mean is NaN.

    Args:
        predict: The classifier; one draw per call under the noise scope opened here.
        loss: Loss per example.
        x: float32 images `(batch, ...)`.
        y: Labels, as `loss` takes them; the first axis is the batch.
        seed: int32 seed pair. Draw `d` has the same noise whatever `eot.chunk` is.
        eot: Number and handling of the draws.
        unroll: Whether the draws become a Python loop instead of a loop in the graph. Needed
            where `predict` communicates between replicas.
        alone: Whether an image's logits depend on that image alone. By batch statistics they do
            not; the slopes of all images then keep their sizes beside each other, and those of
            images of which the classifier is very sure may underflow in float16.

    Returns:
        Losses `(batch,)` and gradients shaped like `x`, both float32.
    """
    values, gradient, _ = eot_look(predict, loss, loss, x, y, seed, eot, unroll, alone)
    return values, gradient


def eot_look(
    predict: Predict,
    loss: Loss,
    observe: Loss,
    x: Images,
    y: Labels,
    seed: Seed,
    eot: EOT,
    unroll: bool = False,
    alone: bool = True,
) -> tuple[Images, PerImage, Logits]:
    """Returns what `eot_gradient` does, and the mean of a second loss over the same draws.

    Args:
        predict: The classifier.
        loss: Loss per example whose gradient is wanted.
        observe: Loss per example of which the values `(batch,)` alone are.
        x: float32 images `(batch, ...)`.
        y: Labels, as both losses take them.
        seed: int32 seed pair.
        eot: Number and handling of the draws.
        unroll: As for `eot_gradient`.
        alone: As for `eot_gradient`.
    """
    draws = _Draws(predict, x, seed, eot, unroll)

    def loss_gradient(
        objective: Callable[[Logits, Answer, int], PerImage],
    ) -> Callable[..., tuple[Tensor, ...]]:
        def part(first: Scalar, count: int) -> tuple[Tensor, ...]:
            images = _stack(x, count)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(images)
                logits, answer = draws.logits(images, first, count)
            with tf.GradientTape(watch_accessed_variables=False) as head:
                head.watch(logits)
                values = objective(logits, answer, count)
            slope = head.gradient(values, logits, unconnected_gradients="zero")
            # The slopes of cross-entropies are 1 at most; one size for the images of all replicas.
            size = _slope_size(slope if alone else tf.ones_like(slope))
            gradient = tape.gradient(
                logits, images, output_gradients=slope / size, unconnected_gradients="zero"
            )
            gradient = tf.cast(gradient, tf.float32) * _like_images(size, images)
            gradient, slopes = draws.told(
                gradient, count, _like_images(tf.math.is_finite(values), images)
            )
            gradient.set_shape(x.shape)  # which a SavedModel forgets, and loops must know
            if slopes.shape.rank:
                slopes.set_shape(x.shape)
            seen = values if observe is loss else observe(_stack(y, count), answer(logits))
            return gradient, slopes, *draws.told(values, count), *draws.told(seen, count)

        return part

    if eot.average == "loss":
        gradient, slopes, values, told, *seen = draws.sum(
            loss_gradient(lambda logits, answer, count: loss(_stack(y, count), answer(logits)))
        )
        values = draws.mean(values, told)
    else:
        # The loss of the mean logits couples all draws. A first pass finds the mean and the
        # loss' slope there; the second, with the same noise, carries that slope back.
        mean, answer = draws.mean_logits(x)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(mean)
            values = loss(y, answer(mean))
        slope = tape.gradient(values, mean)
        gradient, slopes, _, _, *seen = draws.sum(
            loss_gradient(
                lambda logits, answer, count: tf.reduce_sum(_stack(slope, count) * logits, axis=-1)
            )
        )
    return values, draws.mean(gradient, slopes), draws.mean(*seen)


def peak_scaled(gradient: Tensor) -> Tensor:
    """Returns gradients `(batch, ...)` with 1 as the largest size of each image's components.

    Cleverhans bounds a gradient's squared l2 norm from below by 1e-12: a confident image's
    gradient may be smaller, and would move it by less than a step. Zeros stay zeros.
    """
    peak = tf.reduce_max(tf.abs(gradient), axis=list(range(1, gradient.shape.rank)), keepdims=True)
    return gradient / tf.where(peak > 0, peak, 1.0)


def _slope_size(slope: Logits) -> PerImage:
    """Returns `(rows, 1)` by which to divide: each row then peaks near 2**`_SLOPE_EXPONENT`.

    It is a power of 2, so that neither dividing by it nor multiplying rounds.
    """
    peak = tf.reduce_max(tf.abs(slope), axis=1, keepdims=True)
    usable = (peak > 0) & tf.math.is_finite(peak)
    exponent = tf.round(tf.math.log(tf.where(usable, peak, 1.0)) / math.log(2.0))
    # float32 has no powers below 2**-126, and its inverse must be one, too.
    exponent = tf.clip_by_value(exponent - _SLOPE_EXPONENT, -126.0, 126.0)
    # The bits of a float32 that is a power of 2: its exponent alone, shifted by 127.
    bits = tf.bitwise.left_shift(tf.cast(exponent, tf.int32) + 127, 23)
    return tf.bitcast(bits, tf.float32)


def _like_images(rows: PerImage, images: Images) -> Tensor:
    return tf.reshape(rows, [-1] + [1] * (images.shape.rank - 1))


def _stack(tensor: Tensor, count: int) -> Tensor:
    return tensor if count == 1 else tf.concat([tensor] * count, axis=0)


def _unstack_sum(stacked: Tensor, count: int) -> Tensor:
    return tf.reduce_sum(tf.reshape(stacked, tf.concat([[count, -1], tf.shape(stacked)[1:]], 0)), 0)


def _add(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(p + q for p, q in zip(a, b, strict=True))
