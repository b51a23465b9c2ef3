"""Gradients that are absent, saturated or wrong."""

from __future__ import annotations

import numpy as np

from pnil_tf.evaluation.finding import Finding, Weight
from pnil_tf.evaluation.obfuscation.evidence import Evidence
from pnil_tf.evaluation.statistics import wilson

_FEW = 0.05
_MOST = 0.6
_AGREE = 0.1
_ENOUGH_DRAWS = 10


def absent(evidence: Evidence) -> Finding | None:
    """Raised if the margin loss has no input gradient: a step that cannot be differentiated."""
    if evidence.gradients is None:
        return None
    return _lost(
        "gradients_absent",
        evidence.gradients.margin_norm,
        "the input gradient of the logits is zero, NaN or infinite for {:.1%} of the images",
        "Some step of the model (rounding, argmax, NumPy code) stops gradients: replace it by a "
        "smooth one in the attack (BPDA).",
    )


def saturated(evidence: Evidence) -> Finding | None:
    """Raised if cross-entropy has no gradient where the logits have one.

    With logits so far apart that the softmax underflows, the loss is exactly 0 and flat, and
    every attack through it stands still (Carlini and Wagner 2017 on defensive distillation).
    """
    if evidence.gradients is None:
        return None
    lost = _nothing(evidence.gradients.cross_entropy_norm)
    lost &= ~_nothing(evidence.gradients.margin_norm)
    return _finding(
        "loss_saturated",
        lost,
        "cross-entropy is flat although the logits are not, for {:.1%} of the images",
        "Attack with the margin or DLR loss, and judge the model by them alone.",
        Weight.HIDES,
    )


def direction(evidence: Evidence) -> Finding | None:
    """Raised if a small step along the gradient's sign does not raise the loss.

    Noise that follows no seed differs before and after the step, and may hide what it does: few
    draws then say nothing, and many cast doubt alone.
    """
    if evidence.gradients is None:
        return None
    if not evidence.repeatable and evidence.gradients.draws < _ENOUGH_DRAWS:
        return None
    raised = wilson(evidence.gradients.raised)
    return Finding(
        name="gradients_wrong",
        passed=raised.high >= _MOST,
        value=raised.value,
        threshold=_MOST,
        explanation=(
            f"a small step along the gradient raises the loss of {raised.value:.1%} of the images"
        ),
        remedy="The gradient that the model reports is not that of its output: look for custom "
        "gradients and steps that stop them.",
        weight=Weight.HIDES if evidence.repeatable else Weight.DOUBT,
    )


def agreement(evidence: Evidence) -> Finding | None:
    """Raised if averages over independent draws point in unrelated directions."""
    if evidence.gradients is None or not evidence.stochastic:
        return None
    # Images without a gradient have no direction; `gradients_absent` tells of them.
    cosines = evidence.gradients.agreement[np.isfinite(evidence.gradients.agreement)]
    cosine = float(np.mean(cosines)) if len(cosines) else 0.0
    return Finding(
        name="gradients_disagree",
        passed=cosine >= _AGREE,
        value=cosine,
        threshold=_AGREE,
        explanation=(
            f"two averages of the gradient over {evidence.gradients.draws} draws each have a "
            f"cosine of {cosine:.2f}"
        ),
        remedy="Average over more draws: raise eot_samples.",
        weight=Weight.DOUBT,
    )


def outputs(evidence: Evidence) -> Finding:
    """Raised if probabilities came where logits were expected, and have lost information."""
    return Finding(
        name="outputs_saturated",
        passed=evidence.saturated <= _FEW,
        value=evidence.saturated,
        threshold=_FEW,
        explanation=(
            f"the model answers with {evidence.outputs}, of which {evidence.saturated:.1%} are "
            "rounded to exactly 0 and 1"
        ),
        remedy="Hand in the model up to its logits, without the softmax.",
        weight=Weight.DOUBT,
    )


def _lost(name: str, norm: np.ndarray, explanation: str, remedy: str) -> Finding:
    return _finding(name, _nothing(norm), explanation, remedy, Weight.HIDES)


def _nothing(norm: np.ndarray) -> np.ndarray:
    return ~np.isfinite(norm) | (norm == 0)


def _finding(name: str, bad: np.ndarray, explanation: str, remedy: str, weight: Weight) -> Finding:
    share = wilson(bad)
    return Finding(
        name=name,
        passed=share.low <= _FEW,
        value=share.value,
        threshold=_FEW,
        explanation=explanation.format(share.value),
        remedy=remedy,
        weight=weight,
    )


GRADIENT_CHECKS = (absent, saturated, direction, agreement, outputs)
