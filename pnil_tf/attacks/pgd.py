"""Cleverhans' projected gradient descent, unmodified, for classifiers that are stochastic.

Three things are handed to it from outside: the EOT gradient, a start that follows a seed, and
a bound on each pixel in the place of its bound on each image.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

from pnil_tf.attacks.attack import OF_GRADIENT_STEPS, Attack, Kind, Wishes, gradient_draws
from pnil_tf.attacks.ball import ORDERS, box
from pnil_tf.attacks.eot import Loss, Predict, peak_scaled
from pnil_tf.attacks.schedule import draw_phases, running_mean, scheduled_gradient
from pnil_tf.attacks.search import Search, State
from pnil_tf.attacks.settings import AttackSettings
from pnil_tf.attacks.trials import Steps, Stretch, step_search
from pnil_tf.errors import UserError, argument
from pnil_tf.tensors import Images, Labels, Logits, PerImage, Scalar, Seed

# Thinned out below this, a gradient would rest on too few draws.
_ENOUGH_TO_THIN = 40


class SearchMemory:
    """What a search carries from step to step besides the images.

    Cleverhans tells a loss function neither the step nor a seed, and its loop hands back
    nothing but images. So the rest is kept in variables, which a search that pauses sets
    again when it goes on.
    """

    def __init__(self) -> None:
        self.step = tf.Variable(0, trainable=False)
        self.gradient = tf.Variable(tf.zeros([0]), shape=tf.TensorShape(None), trainable=False)

    def resume(self, step: Scalar, gradient: Images) -> None:
        """Sets the number of the next step and the running mean of the gradients."""
        self.step.assign(step)
        self.gradient.assign(gradient)

    def mean_gradient(self, like: Images) -> Images:
        """Returns the running mean of the gradients, of the shape of `like`."""
        value = self.gradient.read_value()
        value.set_shape(like.shape)
        return value


@dataclasses.dataclass(frozen=True)
class PGDSettings(AttackSettings):
    """Settings of `pgd`."""

    def check(self) -> None:
        """Refuses what Cleverhans' PGD cannot do."""
        super().check()
        if self.step_size > self.epsilon:
            raise UserError(
                f"Cleverhans' PGD needs {argument('step_size')} <= {argument('epsilon')}. "
                f"Received: {argument('step_size', self.step_size)}, "
                f"{argument('epsilon', self.epsilon)}. Use the attack 'pgd_strong'."
            )
        if self.norm == "l2" and (self.random_start or self.restarts > 1):
            raise UserError(
                "Cleverhans' PGD has no random start in l2 that follows a seed, so restarts "
                f"would repeat one another. Received: restarts={self.restarts}, "
                f"random_start={self.random_start}. Use the attack 'pgd_strong', which has."
            )
        if self.norm == "l2" and self.check_every:
            raise UserError(
                "Cleverhans' PGD in l2 measures its ball from where it starts and cannot "
                f"pause. Received: check_every={self.check_every}. Use the attack "
                "'pgd_strong', or check_every=0."
            )


def pgd_steps(
    predict: Predict,
    loss: Loss,
    settings: AttackSettings,
    x: Images,
    current: Images,
    y: Labels,
    seed: Seed,
    memory: SearchMemory,
    count: Scalar,
) -> Images:
    """Returns images after `count` steps of Cleverhans' PGD (Madry et al. 2018).

    To be called within a `tf.function`, of whose graph its loop becomes one.

    Args:
        predict: The classifier.
        loss: Loss per example that the attack makes large.
        settings: The attack's settings; `step_size` is at most `epsilon`.
        x: float32 images `(batch, ...)`, the centres of the balls.
        current: Images from which to go on; for l2 it must be `x`.
        y: int labels `(batch,)`.
        seed: int32 seed pair of the whole search.
        memory: Where the search stands; moves on with it.
        count: Steps to take, an int32 tensor.
    """
    phases = draw_phases(settings.eot, settings.schedule, settings.steps)

    @tf.autograph.experimental.do_not_convert
    def surrogate(labels: Labels, logits: Logits) -> PerImage:
        # Cleverhans differentiates this with respect to the images (its model is the
        # identity). The product is linear in them, so what it gets is the EOT gradient,
        # computed chunk by chunk and not through one tape that would hold all draws.
        images = logits
        step = memory.step.assign_add(1) - 1
        gradient = scheduled_gradient(
            predict, loss, tf.stop_gradient(images), labels, seed, step, phases
        )
        gradient = running_mean(memory.mean_gradient(gradient), gradient, settings.momentum)
        memory.gradient.assign(gradient)
        if settings.norm == "l2":
            gradient = peak_scaled(gradient)
        return tf.reduce_sum(tf.stop_gradient(gradient) * images)

    if settings.norm == "linf":
        # The ball as a box of its own for each pixel: the iterates may then start anywhere in
        # it, and a search may pause and go on. Cleverhans' own bound, around `current`, is
        # made too wide to bind.
        low, high = box(x, settings.epsilon, settings.clip_min, settings.clip_max)
        bound = 4.0 * settings.epsilon
    else:
        low, high, bound = settings.clip_min, settings.clip_max, settings.epsilon
    return _as_graph_code()(
        tf.identity,
        current,
        bound,
        settings.step_size,
        count,
        ORDERS[settings.norm],
        loss_fn=surrogate,
        clip_min=low,
        clip_max=high,
        y=y,
        rand_init=False,
        sanity_checks=False,
    )


@functools.cache
def _as_graph_code() -> Callable[..., Images]:
    """Returns Cleverhans' PGD with a loop of the graph in the place of Python's."""
    return tf.autograph.to_graph(projected_gradient_descent)


def _defaults(wishes: Wishes) -> dict[str, Any]:
    steps = wishes.steps or 50
    values = {
        "steps": steps,
        "step_size": min(2 / steps, 1.0) * wishes.epsilon,
        "random_start": wishes.norm == "linf",
        "check_every": 10 if wishes.norm == "linf" else 0,
    }
    if wishes.faithful or wishes.draws < _ENOUGH_TO_THIN:
        return values
    # With a quarter of the draws more pixels take some steps the wrong way. The running mean
    # prevents most of that, the longer step makes up for the rest. Measured on a noisy MNIST
    # model (eps 0.3, 100 images, two seeds): 10.5 % left, against 10.6 % with all draws.
    return values | {
        "step_size": min(2.2 / steps, 1.0) * wishes.epsilon,
        "schedule": ((1.0, 0.25),),
        "momentum": 0.5,
    }


def _build(predict: Predict, settings: AttackSettings) -> Search:
    memory = SearchMemory()

    def steps_with(loss: Loss) -> Steps:
        def steps(stretch: Stretch) -> State:
            x, y, (current, mean), seed, first, count = stretch
            memory.resume(first, mean)
            moved = pgd_steps(predict, loss, settings, x, current, y, seed, memory, count)
            return moved, memory.mean_gradient(x)

        return steps

    batch = settings.max_evaluations_in_flight // settings.eot.chunk
    return step_search(settings, steps_with, batch, memories=1)


ATTACK = Attack(
    kind=Kind.GRADIENT,
    defaults=_defaults,
    build=_build,
    settings=PGDSettings,
    eot=gradient_draws,
    options=OF_GRADIENT_STEPS,
)
