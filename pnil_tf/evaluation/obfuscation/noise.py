"""Noise that does nothing but confuse the attack, or nothing at all."""

from __future__ import annotations

import numpy as np

from pnil_tf.evaluation.finding import Finding, Weight
from pnil_tf.evaluation.obfuscation.compare import TOLERANCE, beyond, by_size, drop
from pnil_tf.evaluation.obfuscation.evidence import Evidence

_MIN_SIGMA, _MAX_SIGMA = 0.01, 10.0


def frozen(evidence: Evidence) -> Finding | None:
    """Raised if an attack on the model with its noise frozen beats the attacks that average."""
    if evidence.cells is None or evidence.cells.frozen_with is None:
        return None
    return _transfer(evidence, "frozen_noise_transfers", evidence.cells.frozen_with, "frozen")


def noise_free(evidence: Evidence) -> Finding | None:
    """Raised if an attack on the model without its noise beats the attacks that average.

    Then the noise only disturbs the attack. The copy's clean accuracy is told first: where it
    is poor, the copy is another model, and an attack on it says little.
    """
    cells = evidence.cells
    if cells is None or cells.without_with is None or cells.clean_without is None:
        return None
    return _transfer(
        evidence,
        "noise_free_transfers",
        cells.without_with,
        f"off (clean accuracy {cells.clean_without.mean():.1%})",
    )


def known_draws(evidence: Evidence) -> Finding | None:
    """Raised if the robustness rests on the attacker not knowing the noise that is drawn.

    Whoever can foresee the draws attacks a model without randomness. The figure stands for
    attackers who cannot.
    """
    cells = evidence.cells
    if cells is None or cells.frozen_frozen is None:
        return None
    quiet = cells.without_without
    lost = drop(cells.with_with, cells.frozen_frozen)
    return Finding(
        name="rests_on_unknown_draws",
        passed=not beyond(lost),
        value=lost.value,
        threshold=TOLERANCE,
        explanation=(
            f"the same attack leaves {cells.with_with.mean():.1%} with fresh draws, "
            f"{cells.frozen_frozen.mean():.1%} with one draw that the attacker knows"
            + ("" if quiet is None else f" and {quiet.mean():.1%} with the noise off")
        ),
        remedy="Count on the lower figures wherever an attacker could learn or influence the "
        "draws: see that noise is fresh in every answer.",
        weight=Weight.NOTE,
    )


def sigma(evidence: Evidence) -> Finding | None:
    """Raised if a PNIL layer does nothing (sigma near 0), or its noise has exploded."""
    if not evidence.sigma:
        return None
    # The layer that is furthest from the middle of the range, on a logarithmic scale.
    middle = np.log(_MIN_SIGMA * _MAX_SIGMA) / 2
    name, value = max(
        evidence.sigma.items(), key=lambda item: abs(np.log(max(item[1], 1e-30)) - middle)
    )
    collapsed = value < _MIN_SIGMA
    return Finding(
        name="pnil_sigma",
        passed=_MIN_SIGMA <= value <= _MAX_SIGMA,
        value=value,
        threshold=_MIN_SIGMA if collapsed else _MAX_SIGMA,
        explanation=(
            f"the noise of the PNIL layer {name!r} has a mean standard deviation of {value:.3g}"
        ),
        remedy="Retrain with a larger start of the noise (or with the layer left out)."
        if collapsed
        else "Retrain with a smaller start of the noise or a smaller learning rate.",
        weight=Weight.NOTE,
    )


def repeatable(evidence: Evidence) -> Finding | None:
    """Raised if a stochastic model draws noise that no seed governs."""
    if not evidence.stochastic:
        return None
    return Finding(
        name="noise_not_repeatable",
        passed=evidence.repeatable,
        value=float(evidence.repeatable),
        threshold=1.0,
        explanation=(
            "the model's noise follows the evaluation's seed"
            if evidence.repeatable
            else "the model draws its own noise, so another evaluation gives other numbers"
        ),
        remedy="Evaluate the Keras model itself instead of an export or a callable.",
        weight=Weight.NOTE,
    )


def held(evidence: Evidence) -> Finding | None:
    """Raised if some noise cannot be held at one draw, or cannot be switched off.

    Then it is not known what an attacker who knows the draws would leave, or what is left of the
    model without them. Held is what PNIL layers draw, and Keras layers by a `SeedGenerator`.
    Switched off are PNIL layers, and Keras layers that are quiet with `training=False`.
    """
    if not (evidence.stochastic and evidence.checked):
        return None
    cells = evidence.cells
    held = cells is not None and cells.frozen_frozen is not None
    silent = cells is not None and cells.without_without is not None
    missing = []
    if not held:
        missing.append(
            "with draws that the attacker knows (some noise is neither that of a PNIL layer nor "
            "drawn by a SeedGenerator)"
        )
    if not silent:
        loud = f", such as that of {' and '.join(evidence.loud)}" if evidence.loud else ""
        missing.append(f"with the noise off (training=False leaves some of it on{loud})")
    return Finding(
        name="noise_not_held",
        passed=held and silent,
        value=float(held) + float(silent),
        threshold=2.0,
        explanation=(
            f"accuracy was not measured {' nor '.join(missing)}"
            if missing
            else "all of the noise can be held at one draw, and switched off"
        ),
        remedy="Take the figure for what attackers leave who cannot foresee the noise.",
        weight=Weight.NOTE,
    )


def _transfer(evidence: Evidence, name: str, share: np.ndarray, how: str) -> Finding:
    reference = evidence.reference()
    advantage = drop(reference, share)
    return Finding(
        name=name,
        passed=not beyond(advantage),
        value=advantage.value,
        threshold=TOLERANCE,
        explanation=(
            f"an attack on the model with its noise {how} leaves {share.mean():.1%} of the model "
            f"with noise, the strongest attack on the latter {reference.mean():.1%}"
        ),
        remedy="Average over more draws (eot_samples), and count the transferred attack.",
        weight=by_size(advantage),
    )


NOISE_CHECKS = (frozen, noise_free, known_draws, held, sigma, repeatable)
