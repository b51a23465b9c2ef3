"""Adversarial examples that are known to be there: does the attack find them?

A read-out is put on the model's own features, one for each image, that tells a single point of the
ball's surface from the inside of the ball. So that point is adversarial by construction, while the
image and random points around it are not; attacks that do not find one there will not find one of
the model's either. Those of the evaluation that follow gradients search, one after another. After
Zimmermann, Brendel, Tramer and Carlini (2022), "Increasing Confidence in Adversarial Robustness
Evaluations"; the read-out is a linear discriminant in closed form. As there, what a random search
finds is too easy to count. What a single gradient step finds does count: on honest models that is
most of it (34 to 97 % on networks for scikit-learn's digits), so without it too few would be left,
and where gradients lead nowhere such a step finds nothing either.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.arrays import Arrays
from pnil_tf.attacks.attack import Kind
from pnil_tf.attacks.ball import uniform_in_ball
from pnil_tf.attacks.registry import attacks_of_kind
from pnil_tf.attacks.settings import ALL_DRAWS, AttackSettings
from pnil_tf.batching import batches_of
from pnil_tf.evaluation.judge import Judge, distances
from pnil_tf.evaluation.obfuscation.evidence import FEWEST_PLANTED, NothingPlanted, Planted
from pnil_tf.evaluation.target import Predict
from pnil_tf.evaluation.trial import Outcome, Trial

MOST = 32
"""Images with a planted example."""

_INSIDE = {False: 200, True: 400}
"""Points inside the ball that a read-out knows, without noise and with it."""

_PIXELS = 2**24
"""Most pixels of such points that are held at once."""

_DEPTH = 0.95
"""Radius within which they lie, in radii of the ball."""

_CANDIDATES = 16
"""Points of the surface; the one that is easiest to tell from the inside is planted. Half of them
lie towards other images: behind noise a random one can hardly be told from the inside."""

_DRAWS = {False: 1, True: 16}
"""Draws of the noise for each of those."""

_RIDGE = 0.1
"""Share of the mean variance by which every variance is raised, so that few points do."""

_WITHIN = {False: 1.0, True: 0.95}
"""Share of the inside that a read-out must tell from its point; with noise some draws go astray."""

_HEIGHT = {False: 0.5, True: 0.25}
"""Where the threshold lies, from the edge of the inside (0) to the point (1)."""

_INTACT, _FOOLED = 0.9, 0.3
"""Least shares of draws in which an image must be right and its point adversarial."""

_ROUNDING = 1e-5
"""Share of the largest feature up to which features that differ are taken for the same."""

_EASY = 0.25
"""Share of random points of the surface from which on an example that they find does not count."""

_DIFFERENCES = 2**18
"""Most differences between an image and others that are held at once."""

_APART = 2.5
"""Radii between images, so that every point of a ball, and near it, has one nearest image."""


def searching(trial: Trial, attacks: Mapping[str, AttackSettings]) -> dict[str, AttackSettings]:
    """Returns those of an evaluation's attacks that search for what is planted, as they do it.

    They are all that follow gradients, in their order. A search without gradients would find
    what hidden gradients miss, and so cover up what is to be seen here. Of the two classes of a
    read-out one is left to go to.

    Args:
        trial: The target and its images.
        attacks: The settings of the evaluation's attacks, by name.
    """
    names = attacks_of_kind(Kind.GRADIENT)
    return {
        stage_of(name): _for_two_classes(attack, trial.settings.check_draws)
        for name, attack in attacks.items()
        if name in names
    }


def _for_two_classes(attack: AttackSettings, draws: int) -> AttackSettings:
    changes: dict[str, Any] = {
        "loss": "margin" if "dlr" in attack.losses else attack.loss,
        "targeted": False,
        "eot": dataclasses.replace(attack.eot, draws=min(attack.eot.draws, draws)),
        "schedule": ALL_DRAWS,
    }
    if hasattr(attack, "targets"):
        changes["targets"] = 1
    return dataclasses.replace(attack, **changes)


def stage_of(name: str) -> str:
    """What the search of an attack for what is planted is called among the pieces of work."""
    return f"check-planted-{name}"


def planted_examples(
    trial: Trial, attacks: Mapping[str, AttackSettings], images: int
) -> Planted | NothingPlanted:
    """Plants adversarial examples and lets attacks search for them.

    Args:
        trial: The target and its images.
        attacks: At least one, by the names of their pieces of work; each sees what those before it
            have not found.
        images: The first so many images may be used.

    Returns:
        What they found, or why fewer than 10 images allow for a planted example.
    """
    settings = trial.settings
    images = min(images, len(trial.x))
    centres = _apart(trial.x[:images], _APART * settings.epsilon, settings.norm)
    if len(centres) < FEWEST_PLANTED:
        return _too_few(len(centres), images, f"lie more than {_APART} epsilon apart")
    planted = trial.store.once("check-plant", lambda: _plant(trial, centres))
    usable = planted["separated"]
    if usable.sum() < FEWEST_PLANTED:
        what = "have a point of the ball's surface that the features tell from its inside"
        return _too_few(int(usable.sum()), len(centres), what)
    centres, points = centres[usable], planted["points"][usable]
    predict = _read_out(trial, centres, planted["weights"][usable], planted["bias"][usable])
    target = dataclasses.replace(trial.target, predict=predict)
    labels = np.zeros(len(centres), np.int32)
    inner = Trial(target, centres, labels, settings, trial.store, trial.stages)
    intact = inner.share(inner.votes("check-plant-clean", centres))
    fooled = 1.0 - inner.share(inner.votes("check-plant-points", points))
    # With noise some of them are adversarial in too few draws.
    sound = (intact >= _INTACT) & (fooled >= _FOOLED)
    if sound.sum() < FEWEST_PLANTED:
        return _too_few(int(sound.sum()), len(centres), "have one that enough draws are fooled by")
    halfway = (1.0 - intact + fooled) / 2
    by_chance = _by_chance(inner, centres, halfway) >= _EASY
    hidden = sound & ~by_chance
    if hidden.sum() < FEWEST_PLANTED:
        return _too_few(int(hidden.sum()), len(centres), "have one that random points do not find")
    last: Outcome | None = None
    for name, attack in attacks.items():
        last = inner.attack(name, attack, len(centres), after=last)
    assert last is not None
    found = 1.0 - last.share
    return Planted(
        1.0 - intact[hidden],
        by_construction=fooled[hidden],
        by_attack=found[hidden],
        by_chance=int((sound & by_chance).sum()),
    )


def _by_chance(trial: Trial, centres: np.ndarray, enough: np.ndarray) -> np.ndarray:
    """Of random points of the surface the share `(n,)` that fools so large a share of draws."""
    judge = Judge(trial.target.predict, _DRAWS[trial.target.stochastic])
    found = []  # one image after the other: their points together may be more than memory holds
    for number, centre in enumerate(centres):
        seed = rng.make_seed(trial.seed("chance", "attack", number))
        points = _surface(centre, centres[:0], rng.fold(seed, 0), trial)
        votes = [
            judge.votes(points[rows], rng.fold(rng.fold(seed, 1), rows.start))
            for rows in batches_of(len(points), trial.batch_size)
        ]
        fooled = (np.concatenate(votes) != 0).mean(axis=1)
        found.append((fooled >= enough[number]).mean())
    return np.array(found)


def _too_few(count: int, images: int, what: str) -> NothingPlanted:
    return NothingPlanted(
        count, f"{count} of {images} images {what}, and it takes {FEWEST_PLANTED}"
    )


def _apart(x: np.ndarray, distance: float, norm: str) -> np.ndarray:
    """The first images that are further than this from all before them."""
    chosen: list[np.ndarray] = []
    for image in x:
        if not chosen or distances(np.stack(chosen), image[np.newaxis], norm).min() > distance:
            chosen.append(image)
        if len(chosen) == MOST:
            break
    return np.stack(chosen)


def _plant(trial: Trial, centres: np.ndarray) -> Arrays:
    """One read-out for each image: `weights (n, features)`, `bias (n,)`, `points` like images."""
    features = tf.function(_features(trial), reduce_retracing=True, autograph=False)
    stochastic = trial.target.stochastic
    rows: list[Arrays] = []
    progress = trial.stages.begin("check-plant", len(centres))
    for number, centre in enumerate(centres):
        seed = rng.make_seed(trial.seed("plant", "attack", number))
        towards = np.roll(centres, -number, axis=0)[1 : _CANDIDATES // 2 + 1]
        surface = _surface(centre, towards, rng.fold(seed, 1), trial)
        of_inside = _of_inside(features, centre, seed, trial)
        of_surface = [
            _in_parts(features, surface, rng.fold(rng.fold(seed, 3), i), trial.batch_size)
            for i in range(_DRAWS[stochastic])
        ]
        rows.append(_discriminant(of_inside, np.mean(of_surface, axis=0), surface, stochastic))
        progress.advance_to(number + 1)
    progress.close()
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _features(trial: Trial) -> Any:
    function = trial.target.features or trial.target.predict

    def features(x: Any, seed: Any) -> Any:
        with rng.noise_scope(seed):
            return function(x)

    return features


def _in_parts(features: Any, x: np.ndarray, seed: Any, size: int) -> np.ndarray:
    return np.concatenate(
        [
            features(tf.constant(x[rows]), rng.fold(seed, rows.start)).numpy()
            for rows in batches_of(len(x), size)
        ]
    ).astype(np.float64)


def _of_inside(features: Any, centre: np.ndarray, seed: Any, trial: Trial) -> np.ndarray:
    """Features of the image itself and of random points around it.

    Few points of a large image are made at once: all together may be more than memory holds.
    """
    settings, found = trial.settings, []
    points, draws = rng.fold(seed, 0), rng.fold(seed, 2)
    at_once = max(1, _PIXELS // centre.size)
    for rows in batches_of(_INSIDE[trial.target.stochastic], at_once):
        if rows.start:
            points, draws = (rng.fold(one, rows.start) for one in (points, draws))
        shape = [rows.stop - rows.start, *centre.shape]
        radius = _DEPTH * settings.epsilon
        inside = centre + uniform_in_ball(shape, points, radius, settings.norm).numpy()
        if not rows.start:
            inside = np.concatenate([centre[np.newaxis], inside])
        inside = np.clip(inside, 0.0, 1.0)
        found.append(_in_parts(features, inside, draws, trial.batch_size))
    return np.concatenate(found)


def _surface(centre: np.ndarray, towards: np.ndarray, seed: Any, trial: Trial) -> np.ndarray:
    """Points as far from the image as ball and range allow, towards others and at random."""
    epsilon, pixels = trial.settings.epsilon, math.prod(centre.shape)
    step = epsilon if trial.settings.norm == "linf" else epsilon / math.sqrt(pixels)
    random = rng.uniform([_CANDIDATES - len(towards), *centre.shape], seed).numpy()
    return np.clip(centre + step * np.sign(np.concatenate([towards - centre, random])), 0.0, 1.0)


def _discriminant(
    inside: np.ndarray, surface: np.ndarray, points: np.ndarray, stochastic: bool
) -> Arrays:
    """The linear read-out that tells one of the surface's points from the inside best.

    Args:
        inside: `(n, features)`.
        surface: `(m, features)`, means over draws.
        points: The images of the latter.
        stochastic: Whether the model is.
    """
    mean = inside.mean(axis=0)
    centred = inside - mean
    n = len(centred)
    ridge = _RIDGE * (centred**2).sum() / n / min(n, centred.shape[1])
    best: Arrays = {
        "weights": np.zeros(len(mean), np.float32),
        "bias": np.array(-1.0, np.float32),
        "points": points[0],
        "separated": np.array(False),
    }
    rounding = _ROUNDING * np.abs(inside).max()
    if not np.abs(centred).max() > rounding or not np.isfinite(ridge):
        return best
    # (covariance + ridge)^-1 by Woodbury's identity: there may be more features than points.
    gram = np.linalg.inv(centred @ centred.T + n * ridge * np.eye(n))
    widest = 0.0
    for feature, point in zip(surface, points, strict=True):
        shift = feature - mean
        weights = shift - centred.T @ (gram @ (centred @ shift))
        scores = centred @ weights
        size = scores.std()
        if not size > 0:
            continue
        edge = np.quantile(scores, _WITHIN[stochastic])
        gap = (shift @ weights - edge) / size
        if gap > widest:
            widest = gap
            weights = weights / size
            threshold = edge / size + _HEIGHT[stochastic] * gap
            best = {
                "weights": weights.astype(np.float32),
                "bias": np.array(-mean @ weights - threshold, np.float32),
                "points": point,
                "separated": np.array(True),
            }
    return best


def _read_out(trial: Trial, centres: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> Predict:
    """Two logits, `(0, score)`, by the read-out of the image that is nearest."""
    function = trial.target.features or trial.target.predict
    flat = tf.constant(centres.reshape(len(centres), -1))
    linf = trial.settings.norm == "linf"
    parts = batches_of(len(centres), max(1, _DIFFERENCES // flat.shape[1]))

    def predict(x: Any) -> Any:
        given = tf.stop_gradient(tf.reshape(x, [tf.shape(x)[0], 1, -1]))

        def distances_to(some: Any) -> Any:
            away = tf.abs(given - some)
            return tf.reduce_max(away, axis=2) if linf else tf.reduce_sum(away**2, axis=2)

        nearest = tf.argmin(tf.concat([distances_to(flat[rows]) for rows in parts], 1), axis=1)
        own = tf.gather(tf.constant(weights), nearest)
        score = tf.reduce_sum(function(x) * own, axis=1) + tf.gather(tf.constant(bias), nearest)
        return tf.stack([tf.zeros_like(score), score], axis=1)

    return predict
