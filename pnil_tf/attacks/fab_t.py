"""FAB: looks for the nearest image across a boundary, towards one class after another.

Croce and Hein 2020, "Minimally Distorted Adversarial Examples with a Fast Adaptive Boundary
Attack", in the targeted version of AutoAttack. Each step goes to the boundary as it would be if
the logits were linear, biased towards the original image, and a little beyond; once across, the
search steps back towards the original.

With noise the nearest image across the boundary of the mean fools half of the draws, and luck
makes it nearer still. Then the directions count: their points at the rim of the ball.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.attacks import apgd
from pnil_tf.attacks.apgd import like, projected
from pnil_tf.attacks.apgd_t import TargetedSettings, targeted_search
from pnil_tf.attacks.attack import OF_AVERAGED_GRADIENTS, Attack, Kind, Wishes
from pnil_tf.attacks.eot import Predict, eot_gradient, eot_loss
from pnil_tf.attacks.hyperplane import to_hyperplane
from pnil_tf.attacks.losses import as_judged, gap, margin, told, wrong
from pnil_tf.attacks.search import Search, State
from pnil_tf.attacks.trials import Stretch
from pnil_tf.tensors import Images, Labels, Logits, PerImage, Scalar, Seed, Tensor

_BIAS = 0.1  # alpha_max: most of the way that is counted from the original
_BEYOND = 1.05  # eta: how far over the boundary
_BACK = 0.9  # beta: what is left of the way after a step back


@dataclasses.dataclass(frozen=True)
class FABSettings(TargetedSettings):
    """Settings of `fab_t`.

    Args:
        at_the_rim: Whether each point found is also looked at where its direction leaves the
            ball, and that point is handed over which the most draws take for another class:
            for models with noise. Otherwise the nearest one across is.
    """

    at_the_rim: bool = False


def fab_steps(
    predict: Predict,
    settings: FABSettings,
    stretch: Stretch,
) -> State:
    """Takes the steps of a stretch.

    Args:
        predict: The classifier.
        settings: The attack's settings.
        stretch: What to do. The labels are int32 `(batch, 2)`, labels and targets. The state:
            what the attack would hand over (an image of the ball that is across a boundary, or
            else the original; with `at_the_rim` that of the ball which fools the most draws);
            where it is; the least distance at which it was across.
    """
    x, pairs, state, seed, first, count = stretch
    pixels = [tf.shape(x)[0], x.shape[1:].num_elements()]
    edges = (settings.norm, settings.clip_min, settings.clip_max)

    def distance(points: Images) -> PerImage:
        order = np.inf if settings.norm == "linf" else 2
        return tf.norm(tf.reshape(points - x, pixels), ord=order, axis=1)

    def body(i: Scalar, found: Images, current: Images, nearest: PerImage) -> tuple[Tensor, ...]:
        step_seed = rng.fold(seed, i)
        value, gradient = eot_gradient(
            predict, gap, current, pairs, rng.fold(step_seed, 0), settings.eot
        )
        # An overflow says nothing about where a boundary lies.
        value, gradient = (
            tf.where(tf.math.is_finite(a), a, tf.zeros_like(a)) for a in (value, gradient)
        )
        # Its size says nothing either, and must not overflow when it is squared.
        peak = tf.reduce_max(tf.abs(tf.reshape(gradient, pixels)), axis=1)
        peak = tf.where(peak > 0, peak, 1.0)
        value, gradient = value / peak, gradient / like(peak, x)
        normal, here, origin = (tf.reshape(a, pixels) for a in (gradient, current, x))
        there = value + tf.reduce_sum(normal * (origin - here), axis=1)
        to_here = tf.reshape(to_hyperplane(here, normal, value, *edges), tf.shape(x))
        to_there = tf.reshape(to_hyperplane(origin, normal, there, *edges), tf.shape(x))
        short, long = (tf.maximum(distance(x + way), 1e-8) for way in (to_here, to_there))
        bias = like(tf.minimum(short / (short + long), _BIAS), x)
        moved = (1 - bias) * (current + _BEYOND * to_here) + bias * (x + _BEYOND * to_there)
        moved = tf.clip_by_value(moved, settings.clip_min, settings.clip_max)

        def look(points: Images) -> Tensor:
            draws_seed = rng.fold(step_seed, 1)
            means = eot_loss(
                predict, _wrong_and_margin, points, pairs[:, 0], draws_seed, settings.eot
            )
            return tf.stack([means[:, 0], as_judged(means[:, 1:])], axis=1)

        seen, far = look(moved), distance(moved)
        across = seen[:, 1] > 0
        better = across & (far < nearest)
        inside = far <= settings.epsilon
        if settings.at_the_rim:
            # All by the same draws, new ones at each step: what was kept by luck does not stay.
            kept = look(found)
            found, kept = _better(inside, moved, seen, found, kept)
            reach = tf.maximum(settings.epsilon / tf.maximum(far, 1e-8), 1.0)
            rim = projected(x + like(reach, x) * (moved - x), x, settings)
            found, _ = _better(tf.ones_like(inside), rim, look(rim), found, kept)
        else:
            found = tf.where(like(better & inside, x), moved, found)
        return (
            i + 1,
            found,
            tf.where(like(across, x), x + _BACK * (moved - x), moved),
            tf.where(better, far, nearest),
        )

    _, *fields = tf.while_loop(
        lambda i, *_: i < first + count, body, (first, *state), parallel_iterations=1
    )
    return tuple(fields)


def _wrong_and_margin(labels: Labels, logits: Logits) -> Tensor:
    """What is looked at, `(batch, 3)`."""
    return tf.concat([wrong(labels, logits)[:, tf.newaxis], told(margin)(labels, logits)], axis=1)


def _better(
    allowed: Tensor, points: Images, seen: Tensor, others: Images, seen_there: Tensor
) -> tuple[Images, Tensor]:
    """Those points, where they may be chosen, that more draws get wrong, or by a larger margin.

    And what was seen there.
    """
    more, as_many = seen[:, 0] > seen_there[:, 0], seen[:, 0] == seen_there[:, 0]
    chosen = allowed & (more | (as_many & (seen[:, 1] > seen_there[:, 1])))
    return (
        tf.where(like(chosen, points), points, others),
        tf.where(chosen[:, tf.newaxis], seen, seen_there),
    )


def _defaults(wishes: Wishes) -> dict[str, Any]:
    return {
        "steps": wishes.steps or 100,
        "step_size": wishes.epsilon,
        "loss": "margin",
        "check_every": 10,
        "at_the_rim": wishes.stochastic,
    }


def _build(predict: Predict, settings: FABSettings) -> Search:
    def start(x: Images, seed: Seed) -> State:
        del seed
        return x, x, np.full(len(x), np.inf, np.float32)

    def step(stretch: Stretch) -> State:
        return fab_steps(predict, settings, stretch)

    return targeted_search(predict, settings, steps=settings.steps, start=start, step=step)


ATTACK = Attack(
    kind=Kind.GRADIENT,
    defaults=_defaults,
    build=_build,
    settings=FABSettings,
    eot=apgd.draws,
    most_draws=apgd.MOST_DRAWS,
    options=OF_AVERAGED_GRADIENTS,
    towards=False,
    ignores=frozenset({"step_size", "loss"}),
)
