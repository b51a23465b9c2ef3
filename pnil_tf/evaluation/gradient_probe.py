"""Measures a model's input gradients at the unperturbed images."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.attacks.eot import EOT, eot_gradient
from pnil_tf.attacks.losses import attack_loss
from pnil_tf.evaluation.obfuscation.evidence import Gradients
from pnil_tf.evaluation.store import Arrays
from pnil_tf.evaluation.trial import Trial

_SMALL_STEP = 0.25
"""Length of the step that tests the gradient's direction, in multiples of epsilon."""


def probe_gradients(trial: Trial, images: int) -> Gradients:
    """Returns what the gradients at the first `images` images look like."""
    settings = trial.settings
    draws = settings.eot_samples if trial.target.stochastic else 1
    measure = tf.function(_measure(trial, EOT(draws=draws)), reduce_retracing=True)
    pieces: list[Arrays] = []
    for number, first in enumerate(range(0, images, settings.batch_size)):
        rows = slice(first, min(first + settings.batch_size, images))
        seed = trial.seed("gradients", "attack", number)

        def piece(rows: slice = rows, seed: int = seed) -> Arrays:
            x, y = tf.constant(trial.x[rows]), tf.constant(trial.y[rows], tf.int32)
            return {
                name: value.numpy() for name, value in measure(x, y, rng.make_seed(seed)).items()
            }

        pieces.append(trial.store.once(f"gradients-{number:05d}", piece))
    merged = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    return Gradients(**merged, draws=draws)


def _measure(trial: Trial, eot: EOT) -> Any:
    predict = trial.target.predict
    cross_entropy, margin = attack_loss("cross_entropy"), attack_loss("margin")
    step = _SMALL_STEP * trial.settings.epsilon

    def measure(x: Any, y: Any, seed: Any) -> dict[str, Any]:
        _, first = eot_gradient(predict, cross_entropy, x, y, rng.fold(seed, 0), eot)
        _, slope = eot_gradient(predict, margin, x, y, rng.fold(seed, 1), eot)
        _, second = eot_gradient(predict, margin, x, y, rng.fold(seed, 2), eot)
        # Common noise, so that the difference is the step's; fresh, so that the gradient has
        # not seen it.
        moved = tf.clip_by_value(x + step * tf.sign(slope), 0.0, 1.0)
        before, _ = eot_gradient(predict, margin, x, y, rng.fold(seed, 3), eot)
        after, _ = eot_gradient(predict, margin, moved, y, rng.fold(seed, 3), eot)
        return {
            "cross_entropy_norm": _norm(first),
            "margin_norm": _norm(slope),
            "raised": after > before,
            "agreement": _cosine(slope, second),
        }

    return measure


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
