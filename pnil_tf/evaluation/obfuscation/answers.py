"""Whether the model has an answer at all, and which."""

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


def predicts_as_called(evidence: Evidence) -> Finding | None:
    """Raised if a functional model calls layers with `training=True` once and for all.

    The figures are those of `predict`, which takes that back. Noise that was meant to be there is
    not, and a server that calls `model(x)` has another model.
    """
    layers = evidence.called_to_train
    if layers is None:
        return None
    return Finding(
        name="predicts_otherwise",
        passed=not layers,
        value=float(len(layers)),
        threshold=0.0,
        explanation=(
            f"{' and '.join(layers)} called with training=True, as the model was built or by the "
            "layer's own default: a plain model(x) keeps to that; predict, an export and this "
            "evaluation do not, and the figures are theirs"
            if layers
            else "no layer is called with training=True once and for all"
        ),
        remedy="For noise that stays on in predict, derive the layer, and call the base class with "
        "training=True in its call; otherwise build the model with training=False in that call.",
        weight=Weight.NOTE,
    )


def predicts_by_a_step(evidence: Evidence) -> Finding | None:
    """Raised if the model's class has a `predict_step` of its own: the figures are another's."""
    if evidence.called_to_train is None:
        return None
    return Finding(
        name="predict_step_left_out",
        passed=not evidence.predicts_by_itself,
        value=float(evidence.predicts_by_itself),
        threshold=0.0,
        explanation=(
            "the model's class has a predict_step of its own: the figures are those of "
            "model(x, training=False), and predict may answer otherwise"
            if evidence.predicts_by_itself
            else "predict answers what the model does"
        ),
        remedy="Pass what predict_step does as a model of its own, a keras.Model whose call does "
        "it, if that is what is to be judged.",
        weight=Weight.NOTE,
    )


ANSWER_CHECKS = (finite, predicts_as_called, predicts_by_a_step)
