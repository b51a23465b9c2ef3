"""Cleverhans' projected gradient descent, unmodified, for classifiers that are stochastic.

Three things are handed to it from outside: the EOT gradient, a start that follows a seed, and
a bound on each pixel in the place of its bound on each image.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

from pnil_tf.attacks.eot import Loss, Predict, peak_scaled
from pnil_tf.attacks.one_step import NORMS
from pnil_tf.attacks.schedule import Phases, running_mean, scheduled_gradient


class SearchMemory:
    """What a search carries from step to step besides the images.

    Cleverhans tells a loss function neither the step nor a seed, and its loop hands back
    nothing but images. So the rest is kept in variables, which a search that pauses sets
    again when it goes on.
    """

    def __init__(self) -> None:
        self.step = tf.Variable(0, trainable=False)
        self.gradient = tf.Variable(tf.zeros([0]), shape=tf.TensorShape(None), trainable=False)

    def resume(self, step: Any, gradient: Any) -> None:
        """Sets the number of the next step and the running mean of the gradients."""
        self.step.assign(step)
        self.gradient.assign(gradient)

    def mean_gradient(self, like: Any) -> Any:
        """Returns the running mean of the gradients, of the shape of `like`."""
        value = self.gradient.read_value()
        value.set_shape(like.shape)
        return value


def pgd_steps(
    predict: Predict,
    loss: Loss,
    x: Any,
    current: Any,
    y: Any,
    seed: Any,
    memory: SearchMemory,
    count: Any,
    *,
    epsilon: float,
    step_size: float,
    momentum: float,
    norm: str,
    phases: Phases,
    clip_min: float,
    clip_max: float,
) -> Any:
    """Returns images after `count` steps of Cleverhans' PGD (Madry et al. 2018).

    To be called within a `tf.function`, where AutoGraph makes its loop a loop in the graph.

    Args:
        predict: The classifier.
        loss: Loss per example that the attack makes large.
        x: float32 images `(batch, ...)`, the centres of the balls.
        current: Images from which to go on; for l2 it must be `x`.
        y: int labels `(batch,)`.
        seed: int32 seed pair of the whole search.
        memory: Where the search stands; moves on with it.
        count: Steps to take, an int32 tensor.
        epsilon: Radius of the ball.
        step_size: Length of a step, at most `epsilon`.
        momentum: Share of the past in the running mean of the gradients that is followed.
        norm: `"linf"` or `"l2"`.
        phases: Draws for each step.
        clip_min: Smallest pixel.
        clip_max: Largest pixel.
    """

    def surrogate(labels: Any, logits: Any) -> Any:
        # Cleverhans differentiates this with respect to the images (its model is the
        # identity). The product is linear in them, so what it gets is the EOT gradient,
        # computed chunk by chunk and not through one tape that would hold all draws.
        images = logits
        step = memory.step.assign_add(1) - 1
        gradient = scheduled_gradient(
            predict, loss, tf.stop_gradient(images), labels, seed, step, phases
        )
        gradient = running_mean(memory.mean_gradient(gradient), gradient, momentum)
        memory.gradient.assign(gradient)
        if norm == "l2":
            gradient = peak_scaled(gradient)
        return tf.reduce_sum(tf.stop_gradient(gradient) * images)

    if norm == "linf":
        # The ball as a box of its own for each pixel: the iterates may then start anywhere in
        # it, and a search may pause and go on. Cleverhans' own bound, around `current`, is
        # made too wide to bind.
        low, high = box(x, epsilon, clip_min, clip_max)
        bound = 4.0 * epsilon
    else:
        low, high, bound = clip_min, clip_max, epsilon
    return projected_gradient_descent(
        tf.identity,
        current,
        bound,
        step_size,
        count,
        NORMS[norm],
        loss_fn=surrogate,
        clip_min=low,
        clip_max=high,
        y=y,
        rand_init=False,
        sanity_checks=False,
    )


def box(x: Any, epsilon: float, clip_min: float, clip_max: float) -> tuple[Any, Any]:
    """Returns the least and the largest pixels of the l_inf ball around `x` within the range."""
    return tf.maximum(x - epsilon, clip_min), tf.minimum(x + epsilon, clip_max)
