"""Whether the classifier knows more than which class is the most frequent."""

from __future__ import annotations

from pnil_tf.evaluation.finding import Finding, Weight
from pnil_tf.evaluation.obfuscation.compare import MUCH, drop
from pnil_tf.evaluation.obfuscation.evidence import Evidence

GUESSES = "no_better_than_guessing"


def no_better_than_guessing(evidence: Evidence) -> Finding:
    """Raised if always answering the most frequent class is as accurate as the model.

    Nothing can be said of the robustness of a model that recognises nothing: a constant answer
    withstands every attack.
    """
    gain = drop(evidence.clean, evidence.guessed)
    right, images = f"{evidence.clean.mean():.1%}", len(evidence.clean)
    if gain.value > 0:
        explanation = (
            f"the model is right in {right} of the unperturbed images, which cannot be told from "
            f"guessing ({evidence.guessing:.1%}) on {images} images"
        )
    else:
        explanation = (
            f"on unperturbed images the model is right in {right}, and the most frequent class is "
            f"the right answer in {evidence.guessing:.1%}"
        )
    return Finding(
        name=GUESSES,
        # Of few images a clear gain may be within chance; that they are few is said elsewhere.
        passed=gain.low > 0 or gain.value > MUCH,
        value=gain.value,
        threshold=0.0,
        explanation=explanation,
        remedy="Evaluate on more images, above all of the rarer classes; if the model still gains "
        "nothing, see that images, labels and pixel range are those that it was trained for.",
        weight=Weight.DOUBT,
    )


GUESSING_CHECKS = (no_better_than_guessing,)
