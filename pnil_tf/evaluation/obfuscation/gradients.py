"""Gradients that are absent, saturated or wrong."""

from __future__ import annotations

import numpy as np

from pnil_tf.evaluation.finding import Finding, Weight
from pnil_tf.evaluation.obfuscation.compare import beyond, by_scores, drop
from pnil_tf.evaluation.obfuscation.evidence import Evidence
from pnil_tf.evaluation.statistics import wilson

_FEW = 0.05
_AGREE = 0.1

# Between what honest models and fakes keep, see the lines of docs/checks.md. An honest one with a
# stand-in's gradient keeps the least, a fake with the gradient of another network that was trained
# on the same images the most. Noise that follows no seed may leave the signs alone to see.
_KEPT = 0.75
_KEPT_ALONG_SIGNS = 0.5
_FEWEST = 10

# Of single images: those of honest networks keep 0.8 or more, with noise or without; those with the
# gradient of an untrained network a tenth in the median.
_KEPT_BY_AN_IMAGE = 0.25

# Honest networks take at most 0.06 (one hardened by RFGSM), stairs half or more, those smoothed by
# a softmax of ten times the logits a quarter: docs/evaluation.md.
_AT_ONE_BOUND = 0.2


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
    """Raised if the model's output does not change as its gradient predicts.

    The change of the margin along the gradient's own signs and along random directions is held
    against the one that forward passes show, with the same noise, over several lengths; the length
    at which they agree best counts. A gradient of another function keeps no promise, whatever the
    sign of its step happens to do. Noise that follows no seed may drown every change: that is a
    doubt alone.
    """
    by_length = _by_length(evidence)
    if by_length is None:
        return None
    threshold = _threshold(evidence)
    told = not np.isnan(by_length).all()
    kept = float(np.nanmax(by_length)) if told else 0.0
    return Finding(
        name="gradients_wrong",
        passed=kept >= threshold,
        value=kept,
        threshold=threshold,
        explanation=(
            "the output changes as its gradient predicts to a degree of "
            f"{kept:.2f} (1: just so, 0: it has nothing to do with it)"
            if told
            else "the noise, which follows no seed, drowns every change that the gradient predicts"
        ),
        remedy="The gradient that the model reports is not that of its output: look for custom "
        "gradients and steps that stop them."
        if told
        else "Evaluate the Keras model itself instead of an export or a callable, or raise "
        "eot_samples.",
        weight=Weight.HIDES if told else Weight.DOUBT,
    )


def of_some(evidence: Evidence) -> Finding | None:
    """Raised if the output of some images does not change as their gradient predicts.

    A gradient that is right for most images passes on average, and the attacks leave the others
    standing. Of noise that follows no seed single images tell too little.
    """
    gradients = evidence.gradients
    if gradients is None or not evidence.repeatable:
        return None
    by_length = np.minimum(gradients.along_signs, gradients.along_random)
    by_length = by_length[np.isfinite(by_length).any(axis=1)]
    if not len(by_length):
        return None
    return _finding(
        "gradients_wrong_for_some",
        np.nanmax(by_length, axis=1) < _KEPT_BY_AN_IMAGE,
        "the output does not change as its gradient predicts for {:.1%} of the images",
        "Look for custom gradients, and steps that stop them, which only some images or classes "
        "meet.",
        Weight.DOUBT,
    )


def far(evidence: Evidence) -> Finding | None:
    """Raised if the output soon ceases to change as its gradient predicts, and Square found more.

    A ripple in front of a model has a true gradient, which tells nothing of what a step of an
    attack meets. Honest models bend, too, so this counts only where Square takes more than the
    tolerance of what gradients leave.
    """
    by_length = _by_length(evidence)
    searched = by_scores(evidence)
    if by_length is None or searched is None:
        return None
    long = by_length[len(by_length) // 2 :]
    if np.isnan(long).all():
        return None
    kept, threshold, lowered = float(np.nanmax(long)), _threshold(evidence), drop(*searched)
    return Finding(
        name="gradients_short_sighted",
        passed=kept >= threshold or not beyond(lowered),
        value=kept,
        threshold=threshold,
        explanation=(
            "over a good part of the ball the output changes as its gradient predicts to a degree "
            f"of {kept:.2f}, and square takes {lowered.value:.1%} more than gradients do"
        ),
        remedy="Believe the figure that has square in it, and look for what makes the output "
        "ripple: attack through a smooth stand-in of it (BPDA).",
        weight=Weight.DOUBT,
    )


def jumps(evidence: Evidence) -> Finding | None:
    """Raised if the answers jump from class to class instead of passing over.

    Of a stair (an argmax, a rounding, a vote) neither gradients nor small changes of the scores
    tell anything, whatever slope the model shows beside it. On the line from an image to one of
    another class, it takes at one bound what other models spread out.
    """
    if evidence.jumps is None:
        return None
    return _finding(
        "answers_jump",
        evidence.jumps > _AT_ONE_BOUND,
        "between two classes the answers jump instead of passing over, for {:.1%} of the images",
        "Some step of the model (rounding, argmax, a vote) answers in stairs: replace it by a "
        "smooth one in the attack (BPDA), or attack the network behind it and let the images "
        "transfer (transfer_from).",
        Weight.HIDES,
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


def _threshold(evidence: Evidence) -> float:
    return _KEPT if _random_told(evidence) else _KEPT_ALONG_SIGNS


def _random_told(evidence: Evidence) -> bool:
    """Whether random directions count: where noise follows no seed, it may drown them."""
    gradients = evidence.gradients
    return evidence.repeatable or (
        gradients is not None and bool(np.isfinite(_kept(gradients.along_random)).any())
    )


def _by_length(evidence: Evidence) -> np.ndarray | None:
    """How well the output changes as predicted, `(lengths,)`.

    The lesser of what signs and random directions keep. None where there is no gradient to hold
    against the function; `gradients_absent` tells of that.
    """
    gradients = evidence.gradients
    if gradients is None or _nothing(gradients.margin_norm).all():
        return None
    by_direction = [_kept(gradients.along_signs)]
    if _random_told(evidence):
        by_direction.append(_kept(gradients.along_random))
    return np.min(by_direction, axis=0)


def _kept(by_image: np.ndarray) -> np.ndarray:
    """The mean over images for each length; NaN where too few of them tell anything."""
    told = np.isfinite(by_image)
    enough = told.sum(axis=0) >= min(_FEWEST, len(by_image))
    means = np.where(told, by_image, 0.0).sum(axis=0) / np.maximum(told.sum(axis=0), 1)
    return np.where(enough, means, np.nan)


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


GRADIENT_CHECKS = (absent, saturated, direction, of_some, far, jumps, agreement, outputs)
