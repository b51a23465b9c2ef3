"""What draws of a model's own noise prove of its answers, within a graph and bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from pnil_tf import rng
from pnil_tf.certificate.front import FrontNoise
from pnil_tf.certificate.in_graph import Radii, lower_confidence
from pnil_tf.certificate.proofs import ABSTAINED
from pnil_tf.certificate.sampling import PROOF, SELECTION, gaussian
from pnil_tf.certificate.settings import CertificateSettings
from pnil_tf.serving.draws import asked_for

MOST_DRAWS = 100_000
"""The most draws that one request may ask for; `certify` takes as many unless told otherwise."""
ALPHA = CertificateSettings.alpha
"""For each image, the proof is wrong with no more than this probability."""
SELECTION_DRAWS = CertificateSettings.selection_draws
"""Draws that choose the class which the others are counted for."""

_MOST_AT_ONCE = 500  # images with their noise; more make no pass quicker
_MOST_VALUES = 2**21  # pixels of them, where the batch itself has no more


def most_at_once(image_shape: Sequence[int]) -> int:
    """Images with their noise that share a pass, if a request has no more."""
    return max(1, min(_MOST_AT_ONCE, _MOST_VALUES // math.prod(image_shape)))


def described(front: FrontNoise) -> dict[str, Any]:
    """What holds of every answer, ready for JSON."""
    return {
        "alpha": ALPHA,
        "selection_draws": SELECTION_DRAWS,
        "most_draws": MOST_DRAWS,
        "method": front.method,
    }


def certified(
    predict: Callable[[Any], Any],
    radii: Radii,
    images: Any,
    unit: Any,
    usable: Any,
    draws: Any,
    classes: int,
) -> dict[str, Any]:
    """Proves what fresh draws of the noise can of each image, as `pnil_tf.certify` does.

    Args:
        predict: float32 images to logits `(batch, classes)`, with the noise of one `PNILLayer`.
        radii: What that noise proves, by `radii_of`.
        images: float32 `(batch, height, width, channels)`, at least one, as `predict` takes them.
        unit: float64, the same in [0, 1].
        usable: bool `(batch,)`; of an image that is not, nothing is proved.
        draws: int32 scalar tensor, from 1 to `MOST_DRAWS`; other numbers raise an
            `InvalidArgumentError` when the graph runs.
        classes: The number of classes.

    Returns:
        `class`, int64 `(batch,)`, the one that is proved to be the majority's, -1 where none is;
        `radius_linf` and `radius_l2`, float64 `(batch,)`, shares of the pixel range: nothing
        within changes the majority's class, 0 where there is none; `p_low`, float64 `(batch,)`,
        the lower bound of the share of draws that answer as most of the selecting ones do.
    """
    draws = asked_for(draws, MOST_DRAWS)
    key = rng.fresh_key()
    first = _votes(predict, images, key, SELECTION, SELECTION_DRAWS, classes)
    selected = tf.argmax(first, axis=-1)
    votes = _votes(predict, images, key, PROOF, draws, classes)
    hits = tf.where(usable, tf.gather(votes, selected, batch_dims=1), 0)
    share = lower_confidence(hits, draws, ALPHA)
    radius = radii(unit, share)
    return {
        "class": tf.where(share > 0.5, selected, tf.constant(ABSTAINED, tf.int64)),
        **{f"radius_{norm}": value for norm, value in radius.items()},
        "p_low": share,
    }


def _votes(
    predict: Callable[[Any], Any], images: Any, key: Any, stream: int, draws: Any, classes: int
) -> Any:
    """How many of so many draws answer with each class, int32 `(batch, classes)`.

    Draws whose logits are not finite count for none.
    """
    batch = tf.shape(images)[0]
    each = tf.maximum(most_at_once(images.shape[1:]) // batch, 1)
    many = tf.repeat(images, each, axis=0)

    def add(first: Any, votes: Any) -> tuple[Any, Any]:
        # Opened here: the loop's body is a graph of its own.
        with rng.noise_from(lambda shape, call: gaussian(shape, key, stream, first)):
            logits = tf.reshape(predict(many), [batch, each, classes])
        wanted = first + tf.range(each) < draws
        counted = tf.reduce_all(tf.math.is_finite(logits), axis=-1) & wanted
        chosen = tf.where(counted, tf.argmax(logits, axis=-1, output_type=tf.int32), -1)
        counts = tf.reduce_sum(tf.one_hot(chosen, classes, dtype=tf.int32), axis=1)
        return first + each, votes + counts

    _, votes = tf.while_loop(
        lambda first, votes: first < draws,
        add,
        (tf.constant(0), tf.zeros([batch, classes], tf.int32)),
        parallel_iterations=1,  # more would hold the activations of several passes at once
    )
    return votes
