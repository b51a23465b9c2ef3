"""The nearest point of a hyperplane within the range of pixels."""

from __future__ import annotations

import tensorflow as tf

from pnil_tf.tensors import Images, PerImage


def to_hyperplane(
    points: Images, normal: Images, gap: PerImage, norm: str, low: float, high: float
) -> Images:
    """Returns the shortest displacements to where `gap + normal . displacement` is 0.

    A displacement moves pixels the way that closes the gap, in l_inf all by the same amount, in
    l2 in proportion to the normal; a pixel that reaches the edge of the range stays there and
    the others move on. How far they must is the root of a function that is linear between the
    points where one pixel more has stopped. Where the range holds no point of the hyperplane,
    all pixels go to their edges.

    Args:
        points: float32 `(batch, pixels)` within the range.
        normal: float32 `(batch, pixels)`.
        gap: float32 `(batch,)`.
        norm: `"linf"` or `"l2"`: in which norm the displacement is to be short.
        low: Smallest pixel.
        high: Largest pixel.
    """
    downward = -tf.sign(gap)[:, tf.newaxis] * tf.sign(normal)
    size = tf.abs(normal)
    room = tf.where(downward > 0, high - points, points - low)
    room = tf.where(size > 0, room, 0.0)
    pace = tf.ones_like(size) if norm == "linf" else size
    ends = tf.math.divide_no_nan(room, pace)  # how far each pixel gets
    order = tf.argsort(ends, axis=1)
    ends_in_order = tf.gather(ends, order, batch_dims=1)
    slopes = tf.gather(size * pace, order, batch_dims=1)
    # Of the gap closed when pixel k stops: what stopped pixels have closed, and those that move.
    stopped = tf.cumsum(slopes * ends_in_order, axis=1)
    moving = tf.cumsum(slopes, axis=1, reverse=True, exclusive=True)
    closed = stopped + moving * ends_in_order
    wanted = tf.abs(gap)[:, tf.newaxis]
    before = tf.reduce_sum(tf.cast(closed < wanted, tf.int32), axis=1)
    last = tf.minimum(before, tf.shape(points)[1] - 1)
    so_far = tf.gather(stopped - slopes * ends_in_order, last, batch_dims=1)
    pace_now = tf.gather(moving + slopes, last, batch_dims=1)
    way = tf.math.divide_no_nan(wanted[:, 0] - so_far, pace_now)[:, tf.newaxis]
    return downward * tf.minimum(way * pace, room)
