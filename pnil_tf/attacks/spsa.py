"""SPSA for batches of images: an attack that needs no gradient.

Simultaneous perturbation stochastic approximation (Spall 1992) estimates a gradient from
losses alone; Uesato et al. 2018, "Adversarial Risk and the Dangers of Evaluating Against Weak
Attacks", made it an attack. The search is Cleverhans' `projected_optimization`; the optimizer
is ours, since theirs works on single images and not with Keras 3.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from cleverhans.tf2.attacks.spsa import projected_optimization

from pnil_tf import rng
from pnil_tf.attacks.attack import Attack, Kind, Wishes
from pnil_tf.attacks.ball import box
from pnil_tf.attacks.eot import Loss, Predict
from pnil_tf.attacks.search import Search, State
from pnil_tf.attacks.settings import AttackSettings
from pnil_tf.attacks.trials import Steps, Stretch, step_search
from pnil_tf.errors import UserError, argument
from pnil_tf.tensors import Images, Labels, PerImage, Scalar, Seed, Shape, Tensor

PointLosses = Callable[[Images], PerImage]
"""Points `(points, batch, ...)` -> losses `(points, batch)`, under the noise scope around it."""

_BETA_1, _BETA_2, _TINY = 0.9, 0.999, 1e-7  # Adam's, as Keras has them

# In one pass, of all points together: 2,048 points of a CIFAR-10 image fit, a hundred of ImageNet.
_VALUES_IN_FLIGHT = 2**24

# The eight signs that a byte stands for. A sign needs one random bit; a random float for every
# pixel of every evaluation would cost about as much as a small model.
_SIGNS = (2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1) - 1.0).astype(
    np.float32
)


def random_signs(shape: Shape, seed: Seed, size: float = 1.0) -> Tensor:
    """Returns float32 numbers, each `size` or `-size` with even odds.

    Args:
        shape: int32 tensor or list.
        seed: int32 seed pair.
        size: Factor on the signs.
    """
    total = tf.reduce_prod(shape)
    words = tf.random.stateless_uniform(
        [(total + 31) // 32], seed, minval=None, maxval=None, dtype=tf.int32, alg="philox"
    )
    octets = tf.cast(tf.bitcast(words, tf.uint8), tf.int32)
    signs = tf.reshape(tf.gather(tf.constant(size * _SIGNS), octets), [-1])
    return tf.reshape(signs[:total], shape)


def spsa_gradient(
    losses: PointLosses,
    x: Images,
    seed: Seed,
    delta: float,
    pairs: int,
    pairs_in_flight: int,
    draws: int = 1,
) -> Images:
    """Returns the SPSA estimate of the gradient of `losses`, shaped like `x`.

    The mean over random sign vectors `d` of `d * (loss(x + delta d) - loss(x - delta d)) /
    (2 delta)`. On a linear loss its expectation is the gradient, and its variance in a
    pixel is the sum of the other pixels' squared gradients over the number of pairs. Every
    image of the batch has directions of its own.

    Args:
        losses: Losses of points, called with all points of a pass at once.
        x: float32 tensor `(batch, ...)`.
        seed: int32 seed pair of the directions and of the noise.
        delta: Distance of the points from `x` in each pixel.
        pairs: Pairs of points per image.
        pairs_in_flight: Most pairs per image in one pass.
        draws: Evaluations of each point, each with noise of its own; their mean counts.
    """

    def part(index: Scalar, count: int) -> Images:
        pass_seed = rng.fold(seed, index)
        shape = tf.concat([[count], tf.shape(x)], axis=0)
        offsets = random_signs(shape, rng.fold(pass_seed, 0), delta)
        points = tf.concat([x + offsets, x - offsets], axis=0)

        def evaluate(draw: Scalar) -> PerImage:
            with rng.noise_scope(rng.fold(pass_seed, 1 + draw)):
                return losses(points)

        def told(draw: Scalar) -> Tensor:
            values = evaluate(draw)
            finite = tf.math.is_finite(values)
            # Stacked, `(2, points, batch)`: what a draw has no answer to must not spoil the others.
            return tf.stack([tf.where(finite, values, 0.0), tf.cast(finite, tf.float32)])

        if draws == 1:
            values = evaluate(0)
        else:
            _, sums = tf.while_loop(
                lambda draw, _: draw < draws,
                lambda draw, sums: (draw + 1, sums + told(draw)),
                (1, told(0)),
                parallel_iterations=1,
            )
            # As if all draws had answered; NaN where none has.
            values = sums[0] * (float(draws) / sums[1])
        slopes = values[:count] - values[count:]
        # An overflow says nothing about a direction.
        slopes = tf.where(tf.math.is_finite(slopes), slopes, tf.zeros_like(slopes))
        # As a product of matrices for each image: on a CPU in a third of tf.einsum's time.
        rows = tf.transpose(slopes)[:, tf.newaxis, :]
        flat = tf.transpose(tf.reshape(offsets, [count, tf.shape(x)[0], -1]), [1, 0, 2])
        return tf.reshape(rows @ flat, tf.shape(x))

    chunk = min(pairs, pairs_in_flight)
    full, rest = divmod(pairs, chunk)
    total = part(0, chunk)
    if full > 1:
        _, total = tf.while_loop(
            lambda i, _: i < full,
            lambda i, total: (i + 1, total + part(i, chunk)),
            (1, total),
            parallel_iterations=1,
        )
    if rest:
        total += part(full, rest)
    return total / (2.0 * delta**2 * pairs * draws)


class SPSAOptimizer:
    """Adam on SPSA estimates, a search of its own for each image of a batch.

    It offers what `projected_optimization` asks of an optimizer, `init_state` and `minimize`.
    The moments are kept in variables, since Cleverhans' loop hands back the images alone and
    a search that pauses needs them to go on.

    Args:
        learning_rate: Adam's.
        delta: Distance of the points from the images, in each pixel.
        samples: Points per image and step, even.
        draws: Evaluations of each point.
        points_in_flight: Most points, over all images, in one pass; fewer where images are large.
    """

    def __init__(
        self, learning_rate: float, delta: float, samples: int, draws: int, points_in_flight: int
    ) -> None:
        self.learning_rate = learning_rate
        self.delta = delta
        self.samples = samples
        self.draws = draws
        self.images = max(1, points_in_flight // samples)
        self._pairs_in_flight = max(1, points_in_flight // (2 * self.images))
        any_shape = tf.TensorShape(None)
        self._moments = [
            tf.Variable(tf.zeros([0]), shape=any_shape, trainable=False) for _ in range(2)
        ]
        self._seed: Seed | None = None
        self._first: Scalar | None = None

    def resume(self, first: Scalar, moments: Sequence[Images], seed: Seed) -> None:
        """Says where the search stands: the next step, the moments, the search's seed pair."""
        self._first, self._seed = first, seed
        for variable, value in zip(self._moments, moments, strict=True):
            variable.assign(value)

    def moments(self, like: Images) -> tuple[Images, Images]:
        """Returns Adam's two moments, of the shape of `like`."""
        values = [variable.read_value() for variable in self._moments]
        for value in values:
            value.set_shape(like.shape)
        return values[0], values[1]

    def init_state(self, x: list[Images]) -> list[Tensor]:
        """Returns the number of the next step."""
        del x
        return [self._first]

    def minimize(
        self, loss_fn: PointLosses, x: list[Images], optim_state: list[Tensor]
    ) -> tuple[list[Images], list[Tensor]]:
        """Takes a step that makes `loss_fn` smaller.

        Args:
            loss_fn: Losses of perturbations, with as many leading axes as the caller likes.
            x: One tensor, the perturbations `(batch, ...)`.
            optim_state: The number of the step.

        Returns:
            The new perturbations and the number of the next step.
        """
        (perturbation,), (step,) = x, optim_state
        values = perturbation.shape[1:].num_elements() or 1
        fitting = _VALUES_IN_FLIGHT // (2 * self.images * values)
        gradient = spsa_gradient(
            loss_fn,
            perturbation,
            rng.fold(self._seed, step),
            self.delta,
            self.samples // 2,
            max(1, min(self._pairs_in_flight, fitting)),
            self.draws,
        )
        mean, square = self.moments(perturbation)
        mean = _BETA_1 * mean + (1 - _BETA_1) * gradient
        square = _BETA_2 * square + (1 - _BETA_2) * gradient**2
        for variable, value in zip(self._moments, (mean, square), strict=True):
            variable.assign(value)
        time = tf.cast(step + 1, tf.float32)
        spread = tf.sqrt(square / (1 - _BETA_2**time)) + _TINY
        moved = perturbation - self.learning_rate * mean / (1 - _BETA_1**time) / spread
        return [moved], [step + 1]


def spsa_steps(
    predict: Predict,
    loss: Loss,
    settings: AttackSettings,
    x: Images,
    current: Images,
    y: Labels,
    count: Scalar,
    optimizer: SPSAOptimizer,
) -> Images:
    """Returns images after `count` steps of Cleverhans' `projected_optimization`.

    Args:
        predict: The classifier; no gradient is asked of it.
        loss: Loss per example that the attack makes large.
        settings: The attack's settings.
        x: float32 images `(batch, ...)`, the centres of the l_inf balls.
        current: Images from which to go on.
        y: int labels `(batch,)`.
        count: Steps to take.
        optimizer: The optimizer, resumed where the search stands.
    """
    low, high = box(x, settings.epsilon, settings.clip_min, settings.clip_max)

    def losses(points: Images, labels: Labels) -> PerImage:
        lead = tf.shape(points)[0]
        rows = tf.reshape(points, tf.concat([[-1], tf.shape(x)[1:]], axis=0))
        rows.set_shape([None, *x.shape[1:]])
        values = loss(tf.tile(labels, [lead]), tf.cast(predict(rows), tf.float32))
        return -tf.reshape(values, [lead, -1])

    def project(perturbation: Images, _: Any, image: Images, **__: Any) -> Images:
        return tf.clip_by_value(image + perturbation, low, high) - image

    # Cleverhans draws its random start in a ball of the radius given, from a stream that
    # follows no seed. So it is told that the radius is 0, and the ball is in the projection.
    moved = projected_optimization(
        losses,
        current,
        y,
        0.0,
        count,
        optimizer,
        clip_min=settings.clip_min,
        clip_max=settings.clip_max,
        project_perturbation=project,
    )
    return tf.clip_by_value(moved, low, high)


@dataclasses.dataclass(frozen=True)
class SPSASettings(AttackSettings):
    """Settings of `spsa`; `step_size` is Adam's learning rate, `eot` the evaluations of a point.

    Args:
        samples: Points at which a gradient is evaluated, even.
        delta: Distance of these points from the image, in each pixel.
    """

    samples: int = 2048
    delta: float = 0.01

    def check(self) -> None:
        """Refuses what SPSA cannot do."""
        super().check()
        self._require_positive("delta")
        self._require_count("samples")
        if self.samples % 2:
            raise UserError(
                f"SPSA evaluates pairs, so it needs an even number of samples. "
                f"Received: samples={self.samples}. Use {self.samples + 1}."
            )
        if self.norm != "linf":
            raise UserError(
                f"SPSA works in the l_inf ball alone. Received: {argument('norm', self.norm)}. "
                f"Leave it out of the attacks, or use {argument('norm', 'linf')}."
            )


def _defaults(wishes: Wishes) -> dict[str, Any]:
    del wishes
    return {
        "steps": 100,
        "step_size": 0.01,
        "loss": "margin",
        "random_start": True,
        "check_every": 5,
    }


def _build(predict: Predict, settings: SPSASettings) -> Search:
    optimizer = SPSAOptimizer(
        settings.step_size,
        settings.delta,
        settings.samples,
        settings.eot.draws,
        settings.max_evaluations_in_flight,
    )

    def steps_with(loss: Loss) -> Steps:
        def steps(stretch: Stretch) -> State:
            x, y, (current, *moments), seed, first, count = stretch
            optimizer.resume(first, moments, seed)
            with _without_deprecation_warnings():
                moved = spsa_steps(predict, loss, settings, x, current, y, count, optimizer)
            return moved, *optimizer.moments(x)

        return steps

    return step_search(settings, steps_with, optimizer.images, memories=2, count_in_graph=False)


@contextlib.contextmanager
def _without_deprecation_warnings() -> Iterator[None]:
    """Cleverhans names an argument of `tf.while_loop` that TensorFlow warns about."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


ATTACK = Attack(
    kind=Kind.GRADIENT_FREE,
    defaults=_defaults,
    build=_build,
    settings=SPSASettings,
    options={
        "samples": "spsa_samples",
        "steps": "spsa_steps",
        "draws": "spsa_eot_samples",
    },
    images="spsa_images",
    ignores=frozenset({"eot"}),
    floors={"steps": 20, "samples": 128, "images": 50},
)
