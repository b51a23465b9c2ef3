"""Looks for stairs: answers that jump from class to class instead of passing over."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from pnil_tf.attacks.losses import margin
from pnil_tf.batching import batches_of
from pnil_tf.evaluation.target import Predict, Target
from pnil_tf.evaluation.trial import Trial
from pnil_tf.progress import Stages

_Along = Callable[[np.ndarray], np.ndarray]
"""Shares of the way `(n,)` -> margins of the starts' classes there."""

_HALVINGS = 8
_POINTS = 2**_HALVINGS
_DRAWS = 16
"""Where the noise can be neither held nor switched off, so many draws tell an image's class."""

_TURN = 0.5
"""So many fewer answers have to be for the class at the end of the line than at its start, or
nothing is made of the gap: a coin between two networks of different mind leaves one, too."""

_MOST = 0.9
"""Share of the answers on a side that its reach takes in, so that single ones do not stretch it."""


def answers(target: Target) -> int:
    """How many answers to each image the probe asks for, one draw of the noise each."""
    return 1 + _HALVINGS if _quiet(target) else _DRAWS + _POINTS


def probe_jumps(trial: Trial, images: int) -> np.ndarray | None:
    """Returns how much of the way from class to class is taken at one bound.

    From each image a straight line leads to one that the model takes for another class. Where the
    model's class changes, the line is halved down to 1/256 of its length; the margin's change over
    that piece is held against its change over the whole line. A network that passes over changes by
    a few hundredths there, one that answers in stairs by all of it.

    Noise that can be neither held nor switched off would drown that piece. So 256 single answers
    are taken along the line, and the gap between the margins of those for the class and of those
    against it is held against how far they reach. Noise scatters the answers of a network, which
    fill the gap; those of stairs stay on their steps, however loud it is. Lines along which noise
    decides more than the way does tell nothing.

    Args:
        trial: The target and its images.
        images: How many of the first ones to look at.

    Returns:
        `(images,)`, 0 for no change and 1 for all of it. None where all images are taken for one
        class.
    """
    quiet = _quiet(trial.target)
    graph = tf.function(quiet or trial.target.predict, reduce_retracing=True, autograph=False)

    def logits(x: np.ndarray) -> np.ndarray:
        rows = batches_of(len(x), trial.batch_size)
        return np.concatenate([graph(tf.constant(x[one])).numpy() for one in rows])

    x = trial.x[:images]
    at_start = np.mean([logits(x) for _ in range(1 if quiet else _DRAWS)], axis=0)
    classes = tf.argmax(at_start, axis=1, output_type=tf.int32)
    others = _another_class(classes.numpy())
    if others is None:
        return None
    away = x[others] - x

    def ahead(answers: np.ndarray) -> np.ndarray:
        """By how much the classes of the starts are ahead of all others."""
        return -margin(classes, tf.constant(answers)).numpy()

    def along(share: np.ndarray) -> np.ndarray:
        return ahead(logits(x + share[:, None, None, None] * away))

    if quiet is None:
        return _gaps(along, len(x), trial.stages)
    return _last_pieces(along, ahead(at_start), ahead(at_start[others]), trial.stages)


def _last_pieces(along: _Along, start: np.ndarray, end: np.ndarray, stages: Stages) -> np.ndarray:
    """The margin's change over the last piece in shares of the whole, which is `start - end`."""
    before, after = np.zeros(len(start), np.float32), np.ones(len(start), np.float32)
    margins = start, end
    progress = stages.begin("check-jumps", _HALVINGS, "halving")
    for halving in range(_HALVINGS):
        middle = (before + after) / 2
        found = along(middle)
        same = found > 0
        before, after = np.where(same, middle, before), np.where(same, after, middle)
        margins = np.where(same, found, margins[0]), np.where(same, margins[1], found)
        progress.advance_to(halving + 1)
    progress.close()
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num((margins[0] - margins[1]) / (start - end))


def _gaps(along: _Along, images: int, stages: Stages) -> np.ndarray:
    """The gap between the answers for and against the class, in shares of how far they reach."""
    margins = np.empty((_POINTS, images), np.float32)
    progress = stages.begin("check-jumps", _POINTS, "point")
    for point, share in enumerate(np.linspace(0.0, 1.0, _POINTS, dtype=np.float32)):
        margins[point] = along(np.full(images, share))
        progress.advance_to(point + 1)
    progress.close()
    return np.array([_gap(one) for one in margins.T])


def _gap(margins: np.ndarray) -> float:
    eighth = len(margins) // 8
    ahead = margins > 0
    if ahead[:eighth].mean() - ahead[-eighth:].mean() < _TURN:
        return 0.0
    sides = margins[ahead], -margins[margins <= 0]
    with np.errstate(invalid="ignore"):
        gap, reach = (sum(np.quantile(side, share) for side in sides) for share in (0.0, _MOST))
        return float(np.nan_to_num(gap / reach))


def _quiet(target: Target) -> Predict | None:
    if not target.stochastic:
        return target.predict
    if target.held:
        return target.frozen()
    return target.noise_free() if target.silent else None


def _another_class(classes: np.ndarray) -> np.ndarray | None:
    """For each image the next one of another class, counted in a circle."""
    n = len(classes)
    different = classes[(np.arange(n)[:, None] + np.arange(n)) % n] != classes[:, None]
    return (np.arange(n) + different.argmax(axis=1)) % n if different.any() else None
