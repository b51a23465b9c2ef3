"""How many draws a request may ask for."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def asked_for(draws: Any, most: int) -> Any:
    """Returns a number of draws; the graph fails when it runs with one that is not allowed.

    Args:
        draws: int32 scalar tensor.
        most: The largest number allowed.
    """
    known = tf.debugging.Assert(
        (draws >= 1) & (draws <= most),
        [f"The number of draws must be from 1 to {most}. Received:", draws],
    )
    with tf.control_dependencies([known]):
        return tf.identity(draws)
