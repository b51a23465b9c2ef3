"""The only judge: which adversarial images count.

Attacks look at a model to find their images; they never count. Here each image is judged by
fresh draws of the noise, whose seeds no attack has seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.batching import batches_of
from pnil_tf.evaluation.target import Predict

NO_ANSWER = -1
"""The vote of a draw whose logits are not finite."""

_DRAWS_AT_ONCE = 1000


class Judge:
    """Judges images by fresh draws of one classifier's noise.

    Args:
        predict: The classifier.
        draws: R, the draws for each image; 1 is enough for a deterministic classifier.
    """

    def __init__(self, predict: Predict, draws: int) -> None:
        self.draws = draws
        self._predict = predict
        self._compiled: Any = None

    def votes(self, x: Any, seed: Any) -> np.ndarray:
        """Returns the class that each draw chooses for each image.

        Args:
            x: float32 images `(n, height, width, channels)`.
            seed: An int or an int32 pair; decides the noise, and must not be one that an
                attack has used.

        Returns:
            int32 `(n, draws)`; `NO_ANSWER` where the logits are not finite.
        """
        if self._compiled is None:
            image, number = (
                tf.TensorSpec([None, *x.shape[1:]], tf.float32),
                tf.TensorSpec([], "int32"),
            )
            pair = tf.TensorSpec([2], tf.int32)
            signature = [image, pair, number, number]
            self._compiled = tf.function(self._vote, signature, autograph=False)
        pair = rng.make_seed(seed) if isinstance(seed, int) else seed
        x = tf.convert_to_tensor(x, tf.float32)
        # Between two calls of TensorFlow, Python answers a signal.
        parts = [
            self._compiled(x, pair, tf.constant(draws.start), tf.constant(draws.stop)).numpy()
            for draws in batches_of(self.draws, _DRAWS_AT_ONCE)
        ]
        return np.concatenate(parts).T

    def __call__(self, x: Any, y: Any, seed: Any) -> np.ndarray:
        """Returns for each image the share of draws that are right, float32 `(n,)`.

        Attacks call this to see which images are lost; what they see never enters a figure.
        """
        right = self.votes(x, seed) == np.asarray(y)[:, np.newaxis]
        return right.mean(axis=1, dtype=np.float32)

    def _vote(self, x: Any, seed: Any, start: Any, end: Any) -> Any:
        def one(draw: Any) -> Any:
            with rng.noise_scope(rng.fold(seed, draw)):
                logits = self._predict(x)
            best = tf.argmax(logits, axis=-1, output_type=tf.int32)
            # A classifier that answers with NaN has not recognised the image.
            return tf.where(tf.reduce_all(tf.math.is_finite(logits), axis=-1), best, NO_ANSWER)

        return tf.map_fn(
            one, tf.range(start, end), fn_output_signature=tf.int32, parallel_iterations=1
        )


def check_adversarial(
    x: np.ndarray, adversarial: np.ndarray, epsilon: float, norm: str, attack: str
) -> None:
    """Refuses images that are no adversarial images of `x`: a broken attack must not count.

    Raises:
        RuntimeError: If the shape differs, or a pixel is not finite or outside [0, 1], or an
            image is outside the ball.
    """
    problem = None
    if adversarial.shape != x.shape:
        problem = f"images of shape {adversarial.shape} for {x.shape}"
    elif not np.isfinite(adversarial).all():
        problem = "pixels that are not finite"
    elif adversarial.min(initial=0.0) < 0 or adversarial.max(initial=0.0) > 1:
        problem = "pixels outside [0, 1]"
    else:
        radius = distances(x, adversarial, norm).max(initial=0.0)
        if radius > epsilon * (1 + 1e-4) + 1e-6:
            problem = f"an image at {norm} distance {radius}, where epsilon is {epsilon}"
    if problem:
        raise RuntimeError(f"The attack {attack!r} is broken: it returned {problem}.")


def distances(x: np.ndarray, adversarial: np.ndarray, norm: str) -> np.ndarray:
    """The distance `(n,)` of each adversarial image from its original."""
    flat = (adversarial.astype(np.float64) - x).reshape(len(x), -1)
    return np.abs(flat).max(axis=1) if norm == "linf" else np.sqrt((flat**2).sum(axis=1))
