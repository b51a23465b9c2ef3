"""The only judge: which adversarial images count, what the figures are, and what they are worth.

Attacks look at a model to find their images; they never count. Here each image is judged by
fresh draws of the noise, whose seeds no attack has seen.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.evaluation.finding import Finding, Weight
from pnil_tf.evaluation.obfuscation.floors import TOO_WEAK
from pnil_tf.evaluation.obfuscation.guessing import GUESSES
from pnil_tf.evaluation.statistics import Interval
from pnil_tf.evaluation.target import Predict

CREDIBLE, DOUBTFUL, OBFUSCATED = "credible", "doubtful", "obfuscated"


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
            int32 `(n, draws)`; -1 where the logits are not finite.
        """
        if self._compiled is None:
            image = tf.TensorSpec([None, *x.shape[1:]], tf.float32)
            self._compiled = tf.function(self._vote, [image, tf.TensorSpec([2], tf.int32)])
        pair = rng.make_seed(seed) if isinstance(seed, int) else seed
        return self._compiled(tf.convert_to_tensor(x, tf.float32), pair).numpy().T

    def __call__(self, x: Any, y: Any, seed: Any) -> np.ndarray:
        """Returns for each image the share of draws that are right, float32 `(n,)`.

        Attacks call this to see which images are lost; what they see never enters a figure.
        """
        right = self.votes(x, seed) == np.asarray(y)[:, np.newaxis]
        return right.mean(axis=1, dtype=np.float32)

    def _vote(self, x: Any, seed: Any) -> Any:
        def one(draw: Any) -> Any:
            with rng.noise_scope(rng.fold(seed, draw)):
                logits = self._predict(x)
            best = tf.argmax(logits, axis=-1, output_type=tf.int32)
            # A classifier that answers with NaN has not recognised the image.
            return tf.where(tf.reduce_all(tf.math.is_finite(logits), axis=-1), best, -1)

        return tf.map_fn(
            one, tf.range(self.draws), fn_output_signature=tf.int32, parallel_iterations=1
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


def worst_per_image(shares: dict[str, np.ndarray]) -> list[str]:
    """For each image the attack that leaves it the smallest share of right draws.

    Args:
        shares: For each attack `(n_k,)` over the first n_k images; they need not be equal.

    Returns:
        One name for each image of the longest.
    """
    names = list(shares)
    table = np.full((len(names), max(map(len, shares.values()))), np.inf)
    for row, name in zip(table, names, strict=True):
        row[: len(shares[name])] = shares[name]
    return [names[i] for i in table.argmin(axis=0)]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What an evaluation comes to, and why, in one plain sentence."""

    verdict: str
    reason: str


def decide(
    findings: list[Finding],
    clean: Interval,
    effective: Interval,
    weakest_attack: str,
    guessing: float,
    epsilon: float,
) -> Verdict:
    """Weighs the findings.

    A failed finding of weight `HIDES` shows that attacks were led astray by the model: any
    figure they give is an upper bound at best, so the verdict is 'obfuscated'. A failed one of
    weight `DOUBT` shows that the evaluation was too weak or too small to tell: 'doubtful'.
    Failed `NOTE`s say something about the model and leave the figure alone. The verdict is
    about the figure: a model without any robustness is 'credible' at an accuracy of nothing. One
    that is no better than guessing is 'doubtful' whatever else was found: it is no classifier.

    Args:
        findings: All findings.
        clean: Clean accuracy.
        effective: Lowest accuracy over the attacks.
        weakest_attack: The attack that leaves it.
        guessing: Accuracy of always answering the most frequent class.
        epsilon: The radius of the attacks.
    """
    failed = {
        weight: [finding for finding in findings if finding.weight is weight and not finding.passed]
        for weight in Weight
    }
    guesses = [finding for finding in failed[Weight.DOUBT] if finding.name == GUESSES]
    if guesses:
        figure = f"no classifier: clean accuracy is {_percent(clean)}"
    elif effective.low <= guessing:
        figure = f"not robust: accuracy at epsilon {epsilon:.4g} is {_percent(effective)}"
    else:
        figure = f"robust accuracy at epsilon {epsilon:.4g} is {_percent(effective)}"
    figure += f" (strongest attack: {weakest_attack}; clean {clean.value:.1%}; guessing {guessing:.1%})"
    if guesses:
        return Verdict(DOUBTFUL, f"doubtful: {_join(guesses)}; {figure}.")
    if failed[Weight.HIDES]:
        reason = f"obfuscated: {_join(failed[Weight.HIDES])}; at best, {figure}."
        return Verdict(OBFUSCATED, reason)
    if failed[Weight.DOUBT]:
        # What was not tried hard enough comes first: it may explain all the rest.
        doubts = sorted(failed[Weight.DOUBT], key=lambda finding: finding.name != TOO_WEAK)
        return Verdict(DOUBTFUL, f"doubtful: {_join(doubts)}; {figure}.")
    return Verdict(CREDIBLE, f"{figure}; the figure is credible: no check found it hollow.")


def _percent(interval: Interval) -> str:
    return f"{interval.value:.1%} (95 % interval {interval.low:.1%} to {interval.high:.1%})"


def _join(findings: list[Finding]) -> str:
    return "; and ".join(finding.explanation.rstrip(".") for finding in findings)
