"""Whether the model has an answer at all."""

from __future__ import annotations

from pnil_tf.evaluation.finding import Finding, Weight
from pnil_tf.evaluation.obfuscation.evidence import Evidence


def finite(evidence: Evidence) -> Finding:
    """Raised if answers to unperturbed images are NaN or infinite; they count as wrong."""
    return Finding(
        name="answers_not_finite",
        passed=evidence.unanswered == 0,
        value=evidence.unanswered,
        threshold=0.0,
        explanation=(
            f"{evidence.unanswered:.1%} of the answers to unperturbed images are NaN or infinite, "
            "and count as wrong"
        ),
        remedy="Find what makes them so: the logarithm or root of a pixel, say, or an overflow in "
        "float16. Attacks move images to where there is no answer, too.",
        weight=Weight.NOTE,
    )


ANSWER_CHECKS = (finite,)
