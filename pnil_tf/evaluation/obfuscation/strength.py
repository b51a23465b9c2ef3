"""Attacks in the wrong order of strength."""

from __future__ import annotations

import itertools

from pnil_tf.attacks.attack import Kind
from pnil_tf.attacks.registry import attacks_of_kind
from pnil_tf.evaluation.finding import Finding, Weight
from pnil_tf.evaluation.obfuscation.compare import TOLERANCE, beyond, by_scores, by_size, drop
from pnil_tf.evaluation.obfuscation.curve import at_half
from pnil_tf.evaluation.obfuscation.evidence import SQUARE, Evidence
from pnil_tf.evaluation.statistics import wilson
from pnil_tf.vocabulary import TRANSFER

_INTACT, _BROKEN = 0.5, 0.1
_STANDING = 0.75  # of clean accuracy, at half the radius

# Of honest models Square takes up to 0.075 (docs/results/autoattack.json: MNIST, seed 3, trained
# again, 1,000 images), of fakes whose gradients mislead more (docs/checks.md: the lines).
_MUCH_BY_SCORES = 0.08

# Where gradients leave little, points tell little. Of what they left Square takes up to 0.23 from
# honest models (the same record: the network that overfitted, from 0.312 to 0.241), from most fakes
# 0.46 to 0.65 (docs/results/planted_verdicts.json). Stairs lose 0.25 and 0.35, and many points.
_MUCH_OF_THE_REST = 1 / 3


def one_step(evidence: Evidence) -> Finding | None:
    """Raised if one gradient step lowers accuracy further than many.

    Many steps can do what one can; where they do worse, the gradient near the image leads
    elsewhere than it says (Athalye et al. 2018, section 3.1).
    """
    many = evidence.strongest(attacks_of_kind(Kind.GRADIENT))
    if many is None or "fgsm" not in evidence.attacks:
        return None
    name, share = many
    advantage = drop(share, evidence.attacks["fgsm"])
    return Finding(
        name="one_step_stronger",
        passed=not beyond(advantage),
        value=advantage.value,
        threshold=TOLERANCE,
        explanation=(
            f"one gradient step (fgsm) leaves {evidence.attacks['fgsm'].mean():.1%}, "
            f"many steps ({name}) {share.mean():.1%}"
        ),
        remedy="Trust gradient-free attacks, or one on a smooth stand-in for the model (BPDA).",
        weight=Weight.HIDES,
    )


def collapse(evidence: Evidence) -> Finding | None:
    """Raised if one step leaves at least half of the clean accuracy and many nearly nothing.

    That is catastrophic overfitting (Wong et al. 2020): training against one-step attacks has
    taught the model to bend its loss so that a single step goes astray. An honest model looks the
    same at a radius far beyond its own, where one step of that length overshoots; but at half
    the radius it still stands, and a collapsed one does not. Where the curve over epsilon has no
    such radius the two cannot be told apart.
    """
    many = evidence.strongest(attacks_of_kind(Kind.GRADIENT, Kind.GRADIENT_FREE))
    if many is None or "fgsm" not in evidence.attacks:
        return None
    name, share = many
    clean, one, left = evidence.clean.mean(), wilson(evidence.attacks["fgsm"]), wilson(share)
    collapsed = one.low > _INTACT * clean and left.high < _BROKEN * clean
    nearer = at_half(evidence)
    if nearer is not None:
        collapsed &= wilson(nearer).low < _STANDING * clean
    return Finding(
        name="collapsed",
        passed=not collapsed,
        value=left.value / max(float(clean), 1e-9),
        threshold=_BROKEN,
        explanation=(
            f"one gradient step (fgsm) leaves {one.value:.1%} of {clean:.1%} clean, while {name} "
            f"leaves {left.value:.1%}"
        ),
        remedy="Retrain against catastrophic overfitting: with PNIL, N-FGSM, or PGD.",
        weight=Weight.DOUBT if nearer is None else Weight.HIDES,
    )


def gradient_free(evidence: Evidence) -> Finding | None:
    """Raised if an attack without gradients lowers accuracy further than all with them.

    Gradients are more information; where they hurt, they mislead (Athalye et al. 2018). So do they
    where those of another model (`transfer`) do more harm. Square has a check of its own.
    """
    names = attacks_of_kind(Kind.GRADIENT_FREE)
    without = evidence.strongest((*(name for name in names if name != SQUARE), TRANSFER))
    with_gradients = evidence.strongest(attacks_of_kind(Kind.GRADIENT))
    if without is None or with_gradients is None:
        return None
    advantage = drop(with_gradients[1], without[1])
    images = min(len(with_gradients[1]), len(without[1]))
    return Finding(
        name="gradient_free_stronger",
        passed=not beyond(advantage),
        value=advantage.value,
        threshold=TOLERANCE,
        explanation=(
            f"without its gradients {without[0]} leaves {without[1][:images].mean():.1%}, with "
            f"them {with_gradients[0]} leaves {with_gradients[1][:images].mean():.1%} of the "
            f"same {images} images"
        ),
        remedy="Believe the gradient-free figure, and look for what hides the gradients.",
        weight=by_size(advantage),
    )


def score_search(evidence: Evidence) -> Finding | None:
    """Raised if Square, which sees scores alone, fools images that withstood all gradients.

    A few points are usual for honest models: the figure takes them in, and this is a note. Where
    it is much more beyond chance, or much of what gradients left, these are hidden; where chance
    may have made it much, the images are too few to tell.
    """
    searched = by_scores(evidence)
    if searched is None:
        return None
    left, still = searched
    lowered = drop(left, still)
    much = max(TOLERANCE, min(_MUCH_BY_SCORES, _MUCH_OF_THE_REST * float(left.mean())))
    surely = lowered.low > _MUCH_BY_SCORES or drop((1 - _MUCH_OF_THE_REST) * left, still).low > 0
    if lowered.value <= much:
        weight = Weight.NOTE
        remedy = "Count square in: the worst case per image does."
    elif surely:
        weight = Weight.HIDES
        remedy = "Believe the figure that has square in it, and look for what hides the gradients."
    else:
        weight = Weight.DOUBT
        remedy = "Evaluate on more images, to tell much from the few points that are usual."
    return Finding(
        name="score_search_stronger",
        passed=not beyond(lowered),
        value=lowered.value,
        threshold=TOLERANCE if weight is Weight.NOTE else much,
        explanation=(
            f"of the same {len(left)} images gradients leave {left.mean():.1%}, and square, which "
            f"sees scores alone, takes a further {lowered.value:.1%} (95 % interval "
            f"{lowered.low:.1%} to {lowered.high:.1%})"
        ),
        remedy=remedy,
        weight=weight,
    )


def random_noise(evidence: Evidence) -> Finding | None:
    """Raised if the attack does hardly better than random noise of the same size.

    Of what an attack that matters (it lowers accuracy beyond the tolerance) takes away, noise
    must not take more than half; noise that beats the attack is a symptom in any case.
    """
    attack = evidence.strongest(attacks_of_kind(Kind.GRADIENT))
    if attack is None or "noise" not in evidence.attacks:
        return None
    name, share = attack
    noise = evidence.attacks["noise"]
    gain = drop(noise, share)
    n = min(len(evidence.clean), len(share))
    beyond_half = drop(noise, (evidence.clean[:n] + share[:n]) / 2)
    useless = beyond(drop(evidence.clean, share)) and beyond_half.high < 0
    return Finding(
        name="random_noise_as_strong",
        passed=not useless and gain.high >= 0,
        value=gain.value,
        threshold=0.0,
        explanation=(
            f"{name} leaves {share.mean():.1%}, random noise of the same size {noise.mean():.1%}, "
            f"clean accuracy is {evidence.clean.mean():.1%}"
        ),
        remedy="The gradient does not guide the attack: use gradient-free attacks.",
        weight=Weight.HIDES,
    )


def unbounded(evidence: Evidence) -> Finding | None:
    """Raised if accuracy stays above 1 / classes although the attack may reach any image.

    With no bound an attack can paint another class' picture; one that fails cannot find what is
    there (Carlini et al. 2019, section 5.2).
    """
    if evidence.unbounded is None:
        return None
    left = wilson(evidence.unbounded)
    return Finding(
        name="unbounded_attack",
        passed=left.low <= 1 / evidence.classes,
        value=left.value,
        threshold=1 / evidence.classes,
        explanation=(
            f"an attack without a bound leaves {left.value:.1%}, an image drawn at random "
            f"would leave {1 / evidence.classes:.1%}"
        ),
        remedy="The attack fails for another reason than robustness: find what stops it.",
        weight=Weight.HIDES,
    )


def rising(evidence: Evidence) -> Finding | None:
    """Raised if accuracy rises as epsilon grows: a larger ball holds the smaller one."""
    curve = evidence.epsilon_curve
    if len(curve) < 2:
        return None
    rises = [
        (drop(larger, smaller), low, high)
        for (low, smaller), (high, larger) in itertools.combinations(curve, 2)
    ]
    rise, low, high = max(rises, key=lambda item: item[0].value)
    seen = (
        f"accuracy rises by {rise.value:.1%} from epsilon {low:.4g} to {high:.4g}"
        if rise.value > 0
        else "accuracy never rises as epsilon grows"
    )
    return Finding(
        name="accuracy_rises_with_epsilon",
        passed=not any(beyond(difference) for difference, _, _ in rises),
        value=rise.value,
        threshold=TOLERANCE,
        explanation=seen,
        remedy="The attack loses its way in the larger ball: use gradient-free attacks.",
        weight=Weight.HIDES,
    )


STRENGTH_CHECKS = (one_step, collapse, gradient_free, score_search, random_noise, unbounded, rising)
