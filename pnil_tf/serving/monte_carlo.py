"""What many draws of a classifier's noise say together, in the memory of one draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from pnil_tf.serving.draws import asked_for

MAX_DRAWS = 10_000
"""The most draws that one request may ask for: its time, unlike its memory, grows with them."""

_TINY = 1e-30


def decided(probabilities: Any) -> Any:
    """Returns the most probable class, int64 `(batch,)`; -1 where a probability is not finite."""
    finite = tf.reduce_all(tf.math.is_finite(probabilities), axis=-1)
    return tf.where(finite, tf.argmax(probabilities, axis=-1), tf.constant(-1, tf.int64))


def monte_carlo(draw: Callable[[Any], Any], draws: Any, batch: Any, classes: int) -> dict[str, Any]:
    """Summarises several draws of a classifier's probabilities.

    Args:
        draw: Returns float32 probabilities `(batch, classes)` for the number of a draw (int32
            scalar, from 0).
        draws: int32 scalar tensor, from 1 to `MAX_DRAWS`; other numbers raise an
            `InvalidArgumentError` when the graph runs.
        batch: int32 scalar, the number of images.
        classes: The number of classes.

    Returns:
        `mean_probabilities` and `standard_deviation` (of one draw, with `draws - 1` in the
        denominator, 0 for a single draw), float32 `(batch, classes)`; `predictive_entropy` of
        the mean in nats, float32 `(batch,)`; `class`, that of most draws, and of equals the one
        with the larger mean, int64 `(batch,)`, -1 where the mean is not finite; `agreement`,
        float32 `(batch,)`, the share of draws that choose it.
    """
    draws = asked_for(draws, MAX_DRAWS)

    def add(number: Any, mean: Any, squares: Any, votes: Any) -> tuple[Any, Any, Any, Any]:
        # Welford's update: sums of squares would lose a small scatter to rounding.
        probabilities = draw(number)
        number += 1
        off = probabilities - mean
        mean += off / tf.cast(number, tf.float32)
        vote = tf.one_hot(decided(probabilities), classes)
        return number, mean, squares + off * (probabilities - mean), votes + vote

    zeros = tf.zeros([batch, classes])
    _, mean, squares, votes = tf.while_loop(
        lambda number, *_: number < draws,
        add,
        (tf.constant(0), zeros, zeros, zeros),
        parallel_iterations=1,  # more would hold the activations of several draws at once
    )
    # What certificates are about is the majority; of two draws that differ it would be by chance.
    most = votes == tf.reduce_max(votes, axis=-1, keepdims=True)
    answer = decided(tf.where(most | tf.math.is_nan(mean), mean, -1.0))
    count = tf.cast(draws, tf.float32)
    return {
        "mean_probabilities": mean,
        "standard_deviation": tf.sqrt(squares / tf.maximum(count - 1.0, 1.0)),
        "predictive_entropy": -tf.reduce_sum(mean * tf.math.log(tf.maximum(mean, _TINY)), axis=-1),
        "agreement": tf.reduce_sum(tf.one_hot(answer, classes) * votes, axis=-1) / count,
        "class": answer,
    }
