"""What the judged figures come to: the worst case of each image, and what they are worth."""

from __future__ import annotations

import dataclasses

import numpy as np

from pnil_tf.contract.pixel_range import UNIT, PixelRange
from pnil_tf.evaluation.finding import Finding, Weight
from pnil_tf.evaluation.obfuscation.floors import TOO_WEAK
from pnil_tf.evaluation.obfuscation.guessing import GUESSES
from pnil_tf.evaluation.statistics import Interval

CREDIBLE, DOUBTFUL, OBFUSCATED = "credible", "doubtful", "obfuscated"


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
    pixel_range: PixelRange = UNIT,
    norm: str = "linf",
) -> Verdict:
    """Weighs the findings.

    A failed finding of weight `HIDES` shows that attacks were led astray by the model: any
    figure they give is an upper bound at best, so the verdict is 'obfuscated'. A failed one of
    weight `DOUBT` shows that the evaluation was too weak or too small to tell: 'doubtful'.
    Failed `NOTE`s say something about the model and leave the figure alone. The verdict is
    about the figure: a model without any robustness is 'credible' at an accuracy of nothing. One
    that gains nothing over guessing is 'doubtful' whatever else was found: it is no classifier.

    Args:
        findings: All findings.
        clean: Clean accuracy.
        effective: Lowest accuracy over the attacks.
        weakest_attack: The attack that leaves it.
        guessing: Accuracy of always answering the most frequent class.
        epsilon: The radius of the attacks, a share of the pixel range.
        pixel_range: The pixels that the model takes.
        norm: The norm of the radius.
    """
    radius = f"epsilon {pixel_range.says(epsilon, norm)}"
    failed = {
        weight: [finding for finding in findings if finding.weight is weight and not finding.passed]
        for weight in Weight
    }
    guesses = [
        finding
        for finding in failed[Weight.DOUBT]
        if finding.name == GUESSES and finding.value <= finding.threshold
    ]
    if guesses:
        figure = f"no classifier: clean accuracy is {_percent(clean)}"
    elif effective.low <= guessing:
        figure = f"not robust: accuracy at {radius} is {_percent(effective)}"
    else:
        figure = f"robust accuracy at {radius} is {_percent(effective)}"
    figure += (
        f" (strongest attack: {weakest_attack}; clean {clean.value:.1%}; guessing {guessing:.1%})"
    )
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
