"""Cleverhans' attacks on a stochastic classifier the plain way: what ours are compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from cleverhans.tf2.attacks import spsa as cleverhans_spsa
from cleverhans.tf2.utils import compute_gradient, optimize_linear

from pnil_tf import rng
from pnil_tf.attacks.ball import box
from pnil_tf.attacks.eot import Predict, cross_entropy


def plain_pgd(
    predict: Predict, epsilon: float, steps: int, draws: int
) -> Callable[[Any, Any, int], np.ndarray]:
    """Returns PGD with Cleverhans' gradient in a Python loop over the draws.

    The gradient of one draw is compiled, the loops over draws and steps are not. Steps of
    2 epsilon / steps from a uniform start in the l_inf ball, pixels in [0, 1].

    Args:
        predict: The classifier.
        epsilon: Radius of the ball.
        steps: Steps to take.
        draws: Draws per gradient.

    Returns:
        `(x float32 (n, ...), y int (n,), seed) -> adversarial images`. The seed decides the
        start; the noise is new at each call.
    """

    @tf.function(reduce_retracing=True)
    def gradient_of_a_draw(x: Any, y: Any) -> Any:
        return compute_gradient(
            predict, lambda labels, logits: cross_entropy(labels, logits), x, y, False
        )

    def attack(x: Any, y: Any, seed: int) -> np.ndarray:
        x, y = tf.constant(x, tf.float32), tf.constant(y, tf.int32)
        low, high = box(x, epsilon, 0.0, 1.0)
        start = x + rng.uniform(tf.shape(x), rng.make_seed(seed), epsilon)
        current = tf.clip_by_value(start, low, high)
        for _ in range(steps):
            gradient = tf.add_n([gradient_of_a_draw(current, y) for _ in range(draws)])
            moved = current + optimize_linear(gradient, 2.0 * epsilon / steps, np.inf)
            current = tf.clip_by_value(moved, low, high)
        return current.numpy()

    return attack


def plain_spsa(
    predict: Predict,
    epsilon: float,
    steps: int,
    samples: int,
    learning_rate: float = 0.01,
    delta: float = 0.01,
    compiled: bool = False,
) -> Callable[[Any, Any], np.ndarray]:
    """Returns Cleverhans' SPSA as it was meant, one image at a time.

    As published it fails with Keras 3: it passes an argument that Keras' Adam has not.

    Args:
        predict: The classifier.
        epsilon: Radius of the l_inf ball; pixels are in [0, 1].
        steps: Steps to take.
        samples: Evaluations per step.
        learning_rate: Adam's.
        delta: Distance of the evaluated points.
        compiled: Whether the attack on an image is one graph; else its loop runs eagerly.

    Returns:
        `(x float32 (n, ...), y int (n,)) -> adversarial images`.
    """

    class WorkingAdam(cleverhans_spsa.SPSAAdam):
        def __init__(self) -> None:
            keras.optimizers.Adam.__init__(self, learning_rate=learning_rate)
            self.lr, self._delta = learning_rate, delta
            self._num_samples, self._num_iters = samples // 2, 1

    optimizer = WorkingAdam()  # made once: it owns a variable, which a graph cannot make twice

    def one(x: Any, y: Any) -> Any:
        return cleverhans_spsa.spsa(
            predict,
            x,
            y,
            epsilon,
            steps,
            clip_min=0.0,
            clip_max=1.0,
            learning_rate=learning_rate,
            delta=delta,
            spsa_samples=samples,
        )

    call = tf.function(one) if compiled else one

    def attack(x: Any, y: Any) -> np.ndarray:
        x, y = tf.constant(x, tf.float32), tf.constant(y, tf.int32)
        with mock.patch.object(cleverhans_spsa, "SPSAAdam", return_value=optimizer):
            found = [call(x[i : i + 1], y[i : i + 1]) for i in range(len(x))]
        return np.concatenate(found)

    return attack
