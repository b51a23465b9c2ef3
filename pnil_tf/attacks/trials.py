"""Searches that take their steps in graphs, one graph for each loss that they try."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from pnil_tf.attacks.ball import uniform_in_ball
from pnil_tf.attacks.eot import Loss
from pnil_tf.attacks.graphs import BatchFunction
from pnil_tf.attacks.losses import attack_loss
from pnil_tf.attacks.search import Search, State
from pnil_tf.attacks.settings import AttackSettings
from pnil_tf.tensors import Images, Labels, Scalar, Seed


class Stretch(NamedTuple):
    """Steps of a search that are taken in one go, all as tensors.

    Args:
        x: Images `(batch, ...)`, the centres of the balls.
        y: int labels `(batch,)`, or what the attack's loss takes in their place.
        state: Where the search stands, as the attack's steps return it.
        seed: Of the whole search.
        first: Number of the first step.
        steps: How many.
    """

    x: Images
    y: Labels
    state: State
    seed: Seed
    first: Scalar
    steps: Scalar


Steps = Callable[[Stretch], State]
"""Takes the steps of a stretch, in a graph."""

Start = Callable[[int, Images, State, Seed], State]
"""`(trial, x, known, seed) -> state`, see `Search.start`."""


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
    by_loss = [
        graph(steps_with(attack_loss(name, settings.targeted)), count_in_graph)
        for name in settings.losses
    ]

    def advance(trial: int, *arguments: Any) -> State:
        return by_loss[trial % len(by_loss)](*arguments)

    def start(trial: int, x: Images, known: State, seed: Seed) -> State:
        del trial, known
        moved = x
        if settings.random_start:
            moved = x + uniform_in_ball(tf.shape(x), seed, settings.epsilon, settings.norm)
        zeros = tf.zeros_like(x)
        return tf.clip_by_value(moved, settings.clip_min, settings.clip_max), *[zeros] * memories

    return Search(
        settings.starts,
        settings.steps,
        batch,
        settings.max_evaluations_in_flight,
        start,
        advance,
    )


def graph(steps: Steps, count_in_graph: bool = True) -> Callable[..., State]:
    """Returns steps as a search calls them: with arrays, and numbers from Python."""

    def unpacked(arrays: State, seed: Seed, first: Scalar, count: Scalar) -> State:
        x, y, *state = arrays
        return steps(Stretch(x, y, tuple(state), seed, first, count))

    compiled = BatchFunction(unpacked)

    def call(x: Images, y: Labels, state: State, seed: Seed, first: int, count: int) -> State:
        number = tf.constant(count) if count_in_graph else count
        labels = np.asarray(y, np.int32)
        moved: State = compiled((x, labels, *state), seed, tf.constant(first), number)
        return moved

    return call
