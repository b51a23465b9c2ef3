"""Measures a model's input gradients, and holds them against the function."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.arrays import Arrays
from pnil_tf.attacks.eot import EOT, cross_entropy, eot_gradient
from pnil_tf.attacks.losses import attack_loss, told
from pnil_tf.batching import batches_of
from pnil_tf.evaluation.obfuscation.evidence import Gradients
from pnil_tf.evaluation.trial import Trial

LENGTHS = (1 / 64, 1 / 16, 1 / 4, 1 / 2)
"""Lengths of the moves along which gradient and function are compared, in radii of the ball.

The shortest are exact for smooth models; half precision needs the longer ones, as does a model
whose gradient is that of a smooth stand-in.
"""

_RANDOM = 8
"""Random directions, of the signs +1 and -1."""

_WIDEST = 0.25
"""Images are drawn in from the edges of the pixels' range by no more than half of this."""

_SURE = 0.1
"""Largest standard error of what all images tell together."""

_BEYOND_NOISE = 3.0
"""Standard deviations of a change's own scatter beyond which it counts as seen."""


def probe_gradients(trial: Trial, images: int) -> Gradients:
    """Returns what the gradients at the first `images` images look like."""
    settings = trial.settings
    draws = settings.eot_samples if trial.target.stochastic else 1
    measure, compare = (
        tf.function(part(trial, EOT(draws=draws)), reduce_retracing=True, autograph=False)
        for part in (_measure, _compare)
    )
    pieces: list[Arrays] = []
    progress = trial.stages.begin("check-gradients", images)
    for number, rows in enumerate(batches_of(images, trial.batch_size)):
        seed = trial.seed("gradients", "attack", number)

        def piece(rows: slice = rows, seed: int = seed) -> Arrays:
            x, y = tf.constant(trial.x[rows]), tf.constant(trial.y[rows], tf.int32)
            pair = rng.make_seed(seed)
            found = {**measure(x, y, pair), **compare(x, y, rng.fold(pair, 3))}
            return {name: value.numpy() for name, value in found.items()}

        pieces.append(trial.store.once(f"gradients-{number:05d}", piece))
        progress.advance_to(rows.stop)
    progress.close()
    merged = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    predicted, seen = (merged.pop(name) for name in ("predicted", "seen"))
    return Gradients(
        **merged,
        along_signs=_kept(predicted[:, 0, :, :1], seen[..., :1], not trial.target.repeatable),
        along_random=_kept(predicted[:, 0, :, 1:], seen[..., 1:], noisy=False)
        if trial.target.repeatable
        else _pooled(predicted[..., 1:], seen[..., 1:]),
        draws=draws,
    )


def _measure(trial: Trial, eot: EOT) -> Any:
    predict = trial.target.predict
    margin = attack_loss("margin")  # and the cross-entropy as others take it

    def measure(x: Any, y: Any, seed: Any) -> dict[str, Any]:
        _, first = eot_gradient(predict, cross_entropy, x, y, rng.fold(seed, 0), eot)
        _, slope = eot_gradient(predict, margin, x, y, rng.fold(seed, 1), eot)
        _, second = eot_gradient(predict, margin, x, y, rng.fold(seed, 2), eot)
        return {
            "cross_entropy_norm": _norm(first),
            "margin_norm": _norm(slope),
            "agreement": _cosine(slope, second),
        }

    return measure


def _compare(trial: Trial, eot: EOT) -> Any:
    """Returns a function to the changes of the margin that the gradient predicts, and those seen.

    Both are `(n, looks, lengths, directions)`; the first direction is
    along the gradient's signs, the others are random. Both are changes from one side of the image
    to the other, so that curvature cancels, of the mean over the same draws as the gradient's. Of
    a model whose noise follows no seed the draws are other ones each time: both are then measured
    twice, so that their scatter is known.
    """
    target, epsilon = trial.target, trial.settings.epsilon
    margin = attack_loss("margin")
    pixels = math.prod(trial.x.shape[1:])
    radius = epsilon if trial.settings.norm == "linf" else epsilon / math.sqrt(pixels)
    radius = min(radius, _WIDEST)
    looks = 1 if target.repeatable else 2

    def compare(x: Any, y: Any, seed: Any) -> dict[str, Any]:
        draws = rng.fold(seed, 0)

        def slope() -> Any:
            return eot_gradient(target.predict, margin, x, y, draws, eot)[1]

        def mean_margin(images: Any) -> Any:
            def one(draw: Any) -> Any:
                with rng.noise_scope(rng.fold(draws, draw)):
                    return told(margin)(y, target.predict(images))

            # As deep as `eot_gradient` goes into the seed: draw by draw the same noise.
            each = tf.map_fn(
                one,
                tf.range(eot.draws),
                fn_output_signature=tf.float32,
                parallel_iterations=1,
            )
            means = tf.reduce_mean(each, axis=0)
            return means[:, 0] / means[:, 1]  # of the draws that have one, as the gradient is

        # Both ends of the longest move must be images.
        edge = max(LENGTHS) * radius
        x = tf.clip_by_value(x, edge, 1.0 - edge)
        gradient = slope()
        signs = [
            tf.sign(rng.uniform(tf.shape(x), rng.fold(rng.fold(seed, 1), i)))
            for i in range(_RANDOM)
        ]
        directions = tf.stack([tf.sign(gradient), *signs])
        # A gradient that has chosen the direction promises too much of it, if it is noisy.
        promises = tf.stack([gradient] if target.repeatable else [slope(), gradient])
        per_length = tf.reduce_sum(
            directions * promises[:, tf.newaxis], axis=list(range(3, x.shape.rank + 2))
        )

        def change(move: Any) -> Any:
            length, direction = move
            step = length * radius * direction
            return (mean_margin(x + step) - mean_margin(x - step)) / 2.0

        lengths = tf.repeat(tf.constant(LENGTHS), 1 + _RANDOM)
        moves = (tf.tile(lengths, [looks]), tf.tile(directions, [looks * len(LENGTHS), *_ones(x)]))
        seen = tf.map_fn(change, moves, fn_output_signature=tf.float32, parallel_iterations=1)
        seen = tf.reshape(seen, [looks, len(LENGTHS), 1 + _RANDOM, -1])
        each_length = radius * tf.constant(LENGTHS)[:, tf.newaxis, tf.newaxis]
        return {
            "predicted": tf.transpose(each_length * per_length[:, tf.newaxis], [3, 0, 1, 2]),
            "seen": tf.transpose(seen, [3, 0, 1, 2]),
        }

    return compare


def _ones(x: Any) -> list[int]:
    return [1] * x.shape.rank


def _kept(predicted: np.ndarray, seen: np.ndarray, noisy: bool) -> np.ndarray:
    """How well the changes keep what was predicted, `(n, lengths)`.

    It is 2 <p, s> / (<p, p> + <s, s>) over the directions: 1 where they are equal, 0 where they
    have nothing to do with each other, -1 where they are opposite. NaN where there is no gradient,
    or where noise drowns whatever there may be.

    Args:
        predicted: `(n, lengths, directions)`.
        seen: `(n, looks, lengths, directions)`.
        noisy: Whether looks differ by noise.
    """
    p, s = predicted.astype(np.float64), seen.astype(np.float64).mean(axis=1)
    with np.errstate(invalid="ignore", over="ignore"):
        sizes = (p**2).sum(axis=2) + (s**2).sum(axis=2)
        usable = (p != 0).any(axis=2) & np.isfinite(sizes) & (sizes > 0)
        if noisy:
            scatter = np.sqrt(np.nanmean((seen[:, 0] - seen[:, 1]) ** 2, axis=(0, 2)) / 4)
            usable &= np.sqrt(sizes) > _BEYOND_NOISE * scatter
        kept = 2 * (p * s).sum(axis=2) / np.where(usable, sizes, 1.0)
    return np.where(usable, kept, np.nan)


def _pooled(predicted: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """What `_kept` is, over all images together, whose noise drowns that of each: `(n, lengths)`.

    Every image gets the same. Its squares are products of two looks, to which scatter adds nothing
    on average. NaN where the images leave it too uncertain.

    Args:
        predicted: `(n, 2, lengths, directions)`.
        seen: The same.
    """
    p, s = predicted.astype(np.float64), seen.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        scale = (p[:, 1] ** 2).sum(axis=2)  # by which no image counts more than another
        both = (p.mean(axis=1) * s.mean(axis=1)).sum(axis=2) / scale
        sizes = (p[:, 0] * p[:, 1] + s[:, 0] * s[:, 1]).sum(axis=2) / 2 / scale
        told = np.isfinite(both) & np.isfinite(sizes)
        both, sizes = np.where(told, both, 0.0), np.where(told, sizes, 0.0)
        kept = both.sum(axis=0) / sizes.sum(axis=0)
        error = np.sqrt(((both - kept * sizes) ** 2).sum(axis=0)) / sizes.sum(axis=0)
    sure = (error >= 0) & (error <= _SURE)
    return np.where(sure, kept, np.nan) * np.ones((len(p), 1))


def _flat(gradient: Any) -> Any:
    return tf.reshape(gradient, [tf.shape(gradient)[0], -1])


def _norm(gradient: Any) -> Any:
    """Euclidean norms; the largest component is divided out, so that none underflows."""
    flat = _flat(gradient)
    largest = tf.reduce_max(tf.abs(flat), axis=1)
    scale = tf.where(largest > 0, largest, 1.0)
    norm = largest * tf.norm(flat / scale[:, tf.newaxis], axis=1)
    return tf.where(tf.reduce_all(tf.math.is_finite(flat), axis=1), norm, np.nan)


def _cosine(a: Any, b: Any) -> Any:
    return tf.reduce_sum(
        tf.math.l2_normalize(_flat(a), axis=1) * tf.math.l2_normalize(_flat(b), axis=1), axis=1
    )
