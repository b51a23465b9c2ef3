"""Whether a training has learned anything at all."""

from __future__ import annotations

import numpy as np

from pnil_tf.errors import argument


def only_guesses(accuracy: float, labels: np.ndarray) -> str | None:
    """What to say of a classifier that recognises no more images than one answer for all would.

    Args:
        accuracy: Its share of right answers on unperturbed images.
        labels: int `(n,)`, the classes of these images.

    Returns:
        One or two sentences with what to try; `None` for a classifier that recognises more.
    """
    most = np.bincount(labels).max()
    if round(accuracy * len(labels)) > most:  # as a float32 it may be a little more than it is
        return None
    return (
        f"The classifier has learned nothing: it is right in {accuracy:.1%} of {len(labels)} "
        f"validation images, and the most frequent class is in {most / len(labels):.1%}. Under "
        "attack from the first step on, large images in particular are hard to learn: let the "
        f"radius grow by {argument('epsilon_warmup', 0.5)}, or choose a smaller "
        f"{argument('max_lr')}."
    )
