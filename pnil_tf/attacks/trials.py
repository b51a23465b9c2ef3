"""Searches that take their steps in graphs, one graph for each loss that they try."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from pnil_tf.attacks.ball import uniform_in_ball
from pnil_tf.attacks.eot import Loss
from pnil_tf.attacks.losses import attack_loss
from pnil_tf.attacks.search import Search, State
from pnil_tf.attacks.settings import AttackSettings

Steps = Callable[..., State]
"""`(x, y, state, seed, first, count) -> state`, for a graph: takes `count` steps from `first` on.
All are tensors; `state` is a tuple."""


def step_search(
    settings: AttackSettings,
    steps_with: Callable[[Loss], Steps],
    batch: int,
    memories: int = 0,
    *,
    count_in_graph: bool = True,
) -> Search:
    """Returns the search whose trials are the restarts of an attack, each with every loss.

    Args:
        settings: The attack's settings.
        steps_with: Makes the steps that a loss asks for.
        batch: Most images in one call.
        memories: Arrays like the images, zeros at the start, that the steps carry along.
        count_in_graph: Whether the number of steps may be a tensor; otherwise each number of
            them needs a graph of its own.
    """
    by_trial = [
        tf.function(steps_with(attack_loss(name, settings.targeted)), reduce_retracing=True)
        for name in settings.losses
    ]

    def advance(
        trial: int, x: Any, y: Any, state: State, seed: Any, first: int, count: int
    ) -> State:
        steps = by_trial[trial % len(by_trial)]
        tensors = tuple(tf.constant(array) for array in state)
        number = tf.constant(count) if count_in_graph else count
        result: State = steps(
            tf.constant(x), tf.constant(y, tf.int32), tensors, seed, tf.constant(first), number
        )
        return result

    def start(x: Any, seed: Any) -> State:
        moved = x
        if settings.random_start:
            moved = x + uniform_in_ball(tf.shape(x), seed, settings.epsilon, settings.norm)
        zeros = tf.zeros_like(x)
        return tf.clip_by_value(moved, settings.clip_min, settings.clip_max), *[zeros] * memories

    trials = settings.restarts * len(settings.losses)
    return Search(trials, settings.steps, batch, settings.max_evaluations_in_flight, start, advance)
