"""Looks for stairs: answers that jump from class to class instead of passing over."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from pnil_tf.attacks.losses import margin
from pnil_tf.batching import batches_of
from pnil_tf.evaluation.target import Predict, Target
from pnil_tf.evaluation.trial import Trial

_HALVINGS = 8
_DRAWS = 16
"""Where the noise can be neither held nor switched off, answers are means over so many draws."""

_LOOKS = 2
"""How often both ends of the last piece are looked at there, by fresh draws."""


def answers(target: Target) -> int:
    """How many answers to each image the probe asks for, one draw of the noise each."""
    return 1 + _HALVINGS if _quiet(target) else _DRAWS * (1 + _HALVINGS + 2 * _LOOKS)


def probe_jumps(trial: Trial, images: int) -> np.ndarray | None:
    """Returns how much of the way from class to class is taken at one bound.

    From each image a straight line leads to one that the model takes for another class. Where the
    model's class changes, the line is halved down to 1/256 of its length; the margin's change over
    that piece is held against its change over the whole line. A network that passes over changes by
    a few hundredths there, one that answers in stairs by all of it.

    Args:
        trial: The target and its images.
        images: How many of the first ones to look at.

    Returns:
        `(images,)`, 0 for no change and 1 for all of it. None where all images are taken for one
        class. Where the noise can be neither held nor switched off, both ends of the piece are
        looked at twice more, and the smaller change counts, so that scatter is not taken for it.
    """
    quiet = _quiet(trial.target)
    graph = tf.function(quiet or trial.target.predict, reduce_retracing=True)

    def logits(x: np.ndarray) -> np.ndarray:
        found = []
        for rows in batches_of(len(x), trial.batch_size):
            images = tf.constant(x[rows])
            draws = [graph(images).numpy() for _ in range(1 if quiet else _DRAWS)]
            found.append(np.mean(draws, axis=0))
        return np.concatenate(found)

    x = trial.x[:images]
    at_start = logits(x)
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

    before, after = np.zeros(len(x), np.float32), np.ones(len(x), np.float32)
    margins = ahead(at_start), ahead(at_start[others])
    whole = margins[0] - margins[1]
    progress = trial.stages.begin("check-jumps", _HALVINGS, "halving")
    for halving in range(_HALVINGS):
        middle = (before + after) / 2
        found = along(middle)
        same = found > 0
        before, after = np.where(same, middle, before), np.where(same, after, middle)
        margins = np.where(same, found, margins[0]), np.where(same, margins[1], found)
        progress.advance_to(halving + 1)
    progress.close()
    changes = [margins[0] - margins[1]]
    if quiet is None:
        changes = [along(before) - along(after) for _ in range(_LOOKS)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(np.min(changes, axis=0) / whole)


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
