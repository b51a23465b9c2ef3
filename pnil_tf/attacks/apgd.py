"""Auto-PGD: projected gradient ascent that chooses its own steps.

Croce and Hein 2020, "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse
Parameter-free Attacks", algorithm 1. Each image has a step of its own, which starts at twice the
radius and is halved at checkpoints where the search does not get on; it then goes on from the
best point seen.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.attacks.attack import Wishes, gradient_draws
from pnil_tf.attacks.ball import box, on_sphere, uniform_in_ball
from pnil_tf.attacks.eot import EOT, Loss, Predict, eot_look
from pnil_tf.attacks.losses import attack_loss, wrong
from pnil_tf.attacks.one_step import ascent
from pnil_tf.attacks.search import Search, State
from pnil_tf.attacks.settings import AttackSettings
from pnil_tf.attacks.trials import Stretch, graph
from pnil_tf.tensors import Images, Labels, Logits, PerImage, Scalar, Seed, Tensor

_INERTIA = 0.25  # 1 - alpha of the paper: share of the last move in the next one
_RISING = 0.75  # rho of the paper

MOST_DRAWS = 20
"""Draws of a gradient, as the published version for stochastic models has them."""


def defaults(wishes: Wishes) -> dict[str, Any]:
    """The settings that all variants share."""
    return {
        "steps": wishes.steps or 100,
        "step_size": 2 * wishes.epsilon,
        "random_start": True,
        "check_every": 10,
    }


def draws(faithful: bool) -> EOT:
    """The draws of a gradient."""
    return dataclasses.replace(gradient_draws(faithful), draws=MOST_DRAWS)


def checkpoints(steps: int) -> tuple[int, ...]:
    """Returns the numbers of moves after which the step is reconsidered, increasing from 0.

    The intervals are 0.22 of all steps at first and 0.03 shorter each time, but no shorter than
    0.06 (equation 4 of the paper; in whole steps, at least one).
    """
    interval, shorter, least = (max(int(share * steps), 1) for share in (0.22, 0.03, 0.06))
    points = [0]
    while points[-1] + interval <= steps:
        points.append(points[-1] + interval)
        interval = max(interval - shorter, least)
    return tuple(points)


@dataclasses.dataclass
class _Climb:
    """Where the searches of a batch stand; each field `(batch, ...)`.

    Args:
        found: What the attack would hand over: the point most often taken for another class,
            of several the one with the largest loss.
        found_wrong: How often it is, a share of the draws.
        found_loss: Its loss.
        current: Where the next gradient is taken.
        previous: Where the last but one was.
        best: The point of the largest loss.
        best_gradient: The gradient there.
        best_loss: That loss.
        last_loss: The loss at the last point.
        checked_loss: The largest loss at the last checkpoint.
        step: Length of a step.
        rises: Moves since the last checkpoint that made the loss larger.
        halved: 1 if the step was halved at the last checkpoint, else 0.
    """

    found: Images
    found_wrong: PerImage
    found_loss: PerImage
    current: Images
    previous: Images
    best: Images
    best_gradient: Images
    best_loss: PerImage
    last_loss: PerImage
    checked_loss: PerImage
    step: PerImage
    rises: PerImage
    halved: PerImage


_FIELDS = tuple(field.name for field in dataclasses.fields(_Climb))


def climb_from(x: Images, settings: AttackSettings, seed: Seed) -> State:
    """Returns the state of searches that begin: at random points of the ball, clipped."""
    shape = tf.shape(x)
    if settings.norm == "linf":
        offset = uniform_in_ball(shape, seed, settings.epsilon, "linf")
    else:
        offset = on_sphere(shape, seed, settings.epsilon)
    start = tf.clip_by_value(x + offset, settings.clip_min, settings.clip_max)
    lowest = tf.fill([shape[0]], -np.inf)
    zero, one = tf.zeros([shape[0]]), tf.ones([shape[0]])
    climb = _Climb(
        found=start,
        found_wrong=-one,
        found_loss=lowest,
        current=start,
        previous=start,
        best=start,
        best_gradient=tf.zeros_like(start),
        best_loss=lowest,
        last_loss=lowest,
        checked_loss=lowest,
        step=settings.step_size * one,
        rises=zero,
        halved=one,
    )
    return tuple(getattr(climb, name) for name in _FIELDS)


def climb(
    predict: Predict,
    loss: Loss,
    missed: Loss,
    settings: AttackSettings,
    stretch: Stretch,
) -> State:
    """Goes on with searches: looks at each point of a stretch, and moves on. Point 0 is the start.

    Args:
        predict: The classifier.
        loss: Loss per example that is made large.
        missed: 1 where logits are what the attack wants, else 0.
        settings: The attack's settings.
        stretch: What to do; the labels are what `loss` and `missed` take, and the state is as
            `climb_from` returns it.
    """
    x, labels, state, seed, first, count = stretch
    points = checkpoints(settings.steps)
    ends, widths = tf.constant(points[1:]), tf.constant(np.diff(points), tf.float32)

    def look(i: Scalar, at: _Climb) -> tuple[_Climb, Images]:
        value, gradient, share = eot_look(
            predict, loss, missed, at.current, labels, rng.fold(seed, i), settings.eot
        )
        # An overflow says nothing about a direction, nor that a point is the best.
        gradient = tf.where(tf.math.is_finite(gradient), gradient, tf.zeros_like(gradient))
        value = tf.where(tf.math.is_finite(value), value, -np.inf)
        better = (i == 0) | (value > at.best_loss)
        handed = (share > at.found_wrong) | ((share == at.found_wrong) & (value > at.found_loss))
        now = dataclasses.replace(
            at,
            found=_chosen(handed, at.current, at.found),
            found_wrong=tf.where(handed, share, at.found_wrong),
            found_loss=tf.where(handed, value, at.found_loss),
            best=_chosen(better, at.current, at.best),
            best_gradient=_chosen(better, gradient, at.best_gradient),
            best_loss=tf.where(better, value, at.best_loss),
            last_loss=value,
            checked_loss=tf.where(i == 0, value, at.checked_loss),
            rises=at.rises + tf.cast((i > 0) & (value > at.last_loss), tf.float32),
        )
        return now, gradient

    def reconsidered(i: Scalar, at: _Climb, gradient: Images) -> tuple[_Climb, Images]:
        width = tf.reduce_sum(tf.where(ends == i, widths, 0.0))
        too_few = at.rises < _RISING * width
        stuck = (at.halved == 0) & (at.best_loss <= at.checked_loss)
        halve = too_few | stuck
        now = dataclasses.replace(
            at,
            current=_chosen(halve, at.best, at.current),
            step=tf.where(halve, at.step / 2, at.step),
            checked_loss=at.best_loss,
            rises=tf.zeros_like(at.rises),
            halved=tf.cast(halve, tf.float32),
        )
        return now, _chosen(halve, at.best_gradient, gradient)

    def move(i: Scalar, at: _Climb, gradient: Images) -> _Climb:
        step = like(at.step, x)
        target = projected(at.current + step * ascent(gradient, 1.0, settings.norm), x, settings)
        inertia = tf.where(i == 0, 0.0, _INERTIA)
        moved = at.current + (1 - inertia) * (target - at.current)
        moved += inertia * (at.current - at.previous)
        return dataclasses.replace(at, current=projected(moved, x, settings), previous=at.current)

    def body(i: Scalar, *fields: Tensor) -> tuple[Tensor, ...]:
        at, gradient = look(i, _Climb(*fields))
        named = [*_as_tuple(at), gradient]

        def at_checkpoint() -> list[Tensor]:
            now, upward = reconsidered(i, at, gradient)
            return [*_as_tuple(now), upward]

        *parts, gradient = tf.cond(tf.reduce_any(ends == i), at_checkpoint, lambda: named)
        for part, old in zip(parts, fields, strict=True):
            part.set_shape(old.shape)
        gradient.set_shape(x.shape)
        return i + 1, *_as_tuple(move(i, _Climb(*parts), gradient))

    _, *fields = tf.while_loop(
        lambda i, *_: i < first + count, body, (first, *state), parallel_iterations=1
    )
    return tuple(fields)


def apgd_search(predict: Predict, settings: AttackSettings, loss: Loss | None = None) -> Search:
    """Returns the search of an APGD that leaves (or, targeted, reaches) the labels' classes.

    Args:
        predict: The classifier.
        settings: The attack's settings.
        loss: What it makes large, if not the loss that the settings name.
    """
    used = loss or attack_loss(settings.loss, settings.targeted)

    def missed(labels: Labels, logits: Logits) -> PerImage:
        share = wrong(labels, logits)
        return 1 - share if settings.targeted else share

    def steps(stretch: Stretch) -> State:
        return climb(predict, used, missed, settings, stretch)

    compiled = graph(steps)

    def start(trial: int, x: Images, known: State, seed: Seed) -> State:
        del trial, known
        return climb_from(x, settings, seed)

    return Search(
        settings.restarts,
        settings.steps + 1,  # one look more than moves
        settings.max_evaluations_in_flight // settings.eot.chunk,
        settings.max_evaluations_in_flight,
        start,
        lambda trial, *arguments: compiled(*arguments),
    )


def projected(moved: Images, x: Images, settings: AttackSettings) -> Images:
    """Returns points brought back to the ball around `x` and then to the range of pixels."""
    if settings.norm == "linf":
        low, high = box(x, settings.epsilon, settings.clip_min, settings.clip_max)
        return tf.clip_by_value(moved, low, high)
    inside = x + tf.clip_by_norm(moved - x, settings.epsilon, axes=list(range(1, x.shape.rank)))
    return tf.clip_by_value(inside, settings.clip_min, settings.clip_max)


def like(values: PerImage, images: Images) -> Tensor:
    """Returns values `(batch,)` in the shape in which they multiply images."""
    return tf.reshape(values, [-1] + [1] * (images.shape.rank - 1))


def _chosen(where: PerImage, those: Tensor, others: Tensor) -> Tensor:
    return tf.where(like(where, those), those, others)


def _as_tuple(at: _Climb) -> tuple[Tensor, ...]:
    return tuple(getattr(at, name) for name in _FIELDS)
