"""Whether enough was done: draws, steps, restarts, kinds of attack, images."""

from __future__ import annotations

from pnil_tf.attacks.attack import Kind
from pnil_tf.attacks.registry import attacks_of_kind
from pnil_tf.evaluation.finding import Finding, Weight
from pnil_tf.evaluation.obfuscation.compare import TOLERANCE, beyond, drop
from pnil_tf.evaluation.obfuscation.curve import CLEARLY, FAR, tells
from pnil_tf.evaluation.obfuscation.evidence import (
    FEWEST_PLANTED,
    SQUARE,
    Evidence,
    NothingPlanted,
    Planted,
)
from pnil_tf.evaluation.statistics import wilson

_MAX_HALF_WIDTH = 0.1
_FOUND = 0.9

_STRONGER = {
    "more_steps": "twice the steps",
    "more_restarts": "twice the restarts",
    "larger_steps": "steps twice as large",
}


def eot_converged(evidence: Evidence) -> Finding | None:
    """Raised if accuracy still falls over the last doubling of the draws.

    Compares the most draws with the most that are no more than half of them.
    """
    curve = evidence.eot_curve
    if len(curve) < 2:
        return None
    most, share = curve[-1]
    fewer, before = [point for point in curve if 2 * point[0] <= most][-1]
    fall = drop(before, share)
    return Finding(
        name="eot_not_converged",
        passed=not beyond(fall),
        value=fall.value,
        threshold=TOLERANCE,
        explanation=(
            f"accuracy is {before.mean():.1%} with {fewer} EOT draws and {share.mean():.1%} "
            f"with {most}"
        ),
        remedy="Raise eot_samples until accuracy stops falling.",
        weight=Weight.DOUBT,
    )


def attack_converged(evidence: Evidence) -> Finding | None:
    """Raised if a stronger version of an attack lowers accuracy further.

    More steps, more restarts and larger steps are tried one by one; the strongest counts. Where it
    does not get below what all attacks together leave, the figure stands, and this is a note.
    """
    if not evidence.stronger or evidence.unchanged is None:
        return None
    plain, lowest = evidence.unchanged, evidence.reference()
    of_all = {name: drop(lowest, share) for name, share in evidence.stronger.items()}
    doubtful = any(beyond(fall) for fall in of_all.values())
    falls = (
        of_all
        if doubtful
        else {name: drop(plain, share) for name, share in evidence.stronger.items()}
    )
    worst = max(falls, key=lambda name: falls[name].value)
    return Finding(
        name="attack_not_converged",
        passed=not any(beyond(fall) for fall in falls.values()),
        value=falls[worst].value,
        threshold=TOLERANCE,
        explanation=(
            f"pgd_strong leaves {plain.mean():.1%} of {len(plain)} images, with {_STRONGER[worst]} "
            f"{evidence.stronger[worst].mean():.1%}, and the strongest of the attacks "
            f"{lowest.mean():.1%}"
        ),
        remedy="Add the attack pgd_strong, or give it more steps."
        if doubtful
        else "Leave it: what this attack missed, others of the evaluation found.",
        weight=Weight.DOUBT if doubtful else Weight.NOTE,
    )


def planted_found(evidence: Evidence) -> Finding | None:
    """Raised if the attacks miss adversarial examples that are there by construction.

    On a sample of images a read-out of the model's features is made to have one inside the ball
    (Zimmermann et al. 2022), and the evaluation's attacks with gradients search for it. It counts
    as found if their image fools a share of the draws that is nearer to the planted one's than to
    the unperturbed image's.
    """
    planted = evidence.planted
    if not isinstance(planted, Planted):
        return None
    halfway = (planted.by_image + planted.by_construction) / 2
    found = wilson(planted.by_attack >= halfway)
    passed = found.high >= _FOUND
    seen = (
        f"of {len(planted.by_attack)} adversarial examples planted inside the ball the attack "
        f"found {found.value:.1%}"
    )
    if planted.by_chance:
        seen += f" ({planted.by_chance} more, which random points found, do not count)"
    return Finding(
        name="planted_not_found",
        passed=passed,
        value=found.value,
        threshold=_FOUND,
        explanation=seen if passed else f"the attack is too weak for this model: {seen}",
        remedy="Give the attack more steps, restarts and draws. If that does not help, look for "
        "what hides the gradients.",
        weight=Weight.DOUBT,
    )


def plantable(evidence: Evidence) -> Finding | None:
    """Raised if too few images allow for a planted adversarial example.

    Then nothing is known of whether the attack would find what is there by construction.
    """
    planted = evidence.planted
    if planted is None:
        return None
    if isinstance(planted, NothingPlanted):
        images, seen = planted.images, f"no adversarial example could be planted: {planted.why}"
    else:
        images = len(planted.by_attack)
        seen = f"an adversarial example could be planted for {images} images"
    return Finding(
        name="nothing_planted",
        passed=images >= FEWEST_PLANTED,
        value=float(images),
        threshold=float(FEWEST_PLANTED),
        explanation=seen,
        remedy="Rely on the other checks; more check_images, or a smaller epsilon, may help.",
        weight=Weight.NOTE,
    )


def coverage(evidence: Evidence) -> Finding:
    """Raised unless an attack with gradients, Square, and all checks were run.

    A curve over epsilon needs a radius that is clearly another one, and not far away: otherwise it
    tells of no rise or fall.
    Estimates of gradients (SPSA) are no substitute for a search over scores: where gradients are
    partly masked, they go astray as well (docs/results.md: a verdict at the floors).
    """
    missing = [
        what
        for what, names in (
            ("an attack of many gradient steps", attacks_of_kind(Kind.GRADIENT)),
            ("the search over scores alone (square)", (SQUARE,)),
        )
        if evidence.strongest(names) is None
    ]
    if not evidence.checked:
        missing.append("the search for hidden gradients")
    else:
        if evidence.planted is None:
            missing.append("the search for planted adversarial examples")
        if not tells(evidence):
            missing.append(
                f"a radius {CLEARLY:g} to {FAR} times as large or as small as epsilon in the curve "
                "over it"
            )
    verb = "were" if len(missing) > 1 else "was"
    return Finding(
        name="attacks_missing",
        passed=not missing,
        value=float(len(missing)),
        threshold=0.0,
        explanation=f"{' and '.join(missing) or 'nothing that a verdict needs'} {verb} left out",
        remedy="Leave the attacks and epsilons at their default, and the checks on.",
        weight=Weight.DOUBT,
    )


def images(evidence: Evidence) -> Finding:
    """Raised if the strongest attack's accuracy is not known to within 10 points."""
    name, share = evidence.strongest() or ("clean", evidence.clean)
    interval = wilson(share)
    half = (interval.high - interval.low) / 2
    return Finding(
        name="too_few_images",
        passed=half <= _MAX_HALF_WIDTH,
        value=half,
        threshold=_MAX_HALF_WIDTH,
        explanation=(
            f"on {len(share)} images the accuracy under {name} is known to within "
            f"{100 * half:.1f} points"
        ),
        remedy="Evaluate on more images.",
        weight=Weight.DOUBT,
    )


EFFORT_CHECKS = (eot_converged, attack_converged, planted_found, plantable, coverage, images)
