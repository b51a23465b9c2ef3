"""The least effort on which a verdict can rest.

Less may leave far more accuracy than a patient evaluation would, and nothing in what it measured
tells of that.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from pnil_tf.attacks.attack import Kind
from pnil_tf.attacks.registry import attack_named, attacks_of_kind
from pnil_tf.evaluation.finding import Finding, Weight
from pnil_tf.evaluation.obfuscation.evidence import CHECKS, EVALUATION, SQUARE, Evidence

TOO_WEAK = "settings_too_weak"
WITH_GRADIENTS = "attacks with gradients"
NOISE = "the evaluation of a model with noise"


@dataclasses.dataclass(frozen=True)
class Floor:
    """The least value of a setting, or the largest one.

    Args:
        of: Whose setting: `WITH_GRADIENTS`, an attack without gradients by name, `EVALUATION`,
            `CHECKS` or `NOISE`.
        setting: Its name.
        least: The least value.
        most: The largest one.
    """

    of: str
    setting: str
    least: float = 0
    most: float = math.inf

    @property
    def says(self) -> str:
        """The bound, in words."""
        return f"at least {self.least:g}" if self.least else f"at most {self.most:g}"


FLOORS = (
    Floor(WITH_GRADIENTS, "steps", 20),
    Floor(WITH_GRADIENTS, "reach", 2),
    # Longer than the ball is wide, steps hop from edge to edge. APGD begins with 2.
    Floor(WITH_GRADIENTS, "step", most=2),
    Floor(WITH_GRADIENTS, "starts", 2),
    Floor(WITH_GRADIENTS, "images", 50),
    *(
        Floor(name, setting, least)
        for name in attacks_of_kind(Kind.GRADIENT_FREE)
        for setting, least in attack_named(name).floors.items()
    ),
    Floor(EVALUATION, "images", 50),
    Floor(CHECKS, "check_images", 50),
    Floor(NOISE, "eot_samples", 10),
    Floor(NOISE, "judge_draws", 10),
    Floor(NOISE, "check_draws", 4),
)


def too_weak(evidence: Evidence) -> Finding:
    """Raised if a setting is beyond a bound on which a verdict rests, see the second table.

    So are attacks that all go towards one class. One attack with gradients has to reach its
    floors, and Square; all with gradients that reach theirs add up their starts. Without Square,
    which is a doubt of its own, another attack without gradients has to.
    """
    missing = [
        *_of_attacks_with_gradients(evidence),
        *_of_attacks_without(evidence),
        *_missing(EVALUATION, "", evidence.effort[EVALUATION]),
    ]
    if evidence.checked:
        missing += _missing(CHECKS, "", evidence.effort[CHECKS])
    if evidence.target_class is not None:
        missing.append(
            f"target_class={evidence.target_class} (attacks away from the label may leave less)"
        )
    if evidence.stochastic:
        settings = dict(evidence.effort[EVALUATION])
        if evidence.checked:
            settings |= evidence.effort[CHECKS]
        missing += _missing(NOISE, "", settings)
    return Finding(
        name=TOO_WEAK,
        passed=not missing,
        value=float(len(missing)),
        threshold=0.0,
        explanation="settings too weak for a verdict: " + ", ".join(missing)
        if missing
        else "no setting is too weak for a verdict",
        remedy="Leave the settings at their defaults, or bring those named to their bounds.",
        weight=Weight.DOUBT,
    )


def _of_attacks_with_gradients(evidence: Evidence) -> list[str]:
    names = attacks_of_kind(Kind.GRADIENT)
    attacks = {name: evidence.effort[name] for name in evidence.attacks if name in names}
    if not attacks:
        return []
    alone = {
        name: _missing(WITH_GRADIENTS, name, {**effort, "starts": None, "step": _step(effort)})
        for name, effort in attacks.items()
    }
    enough = [name for name, missing in alone.items() if not missing]
    if not enough:
        return min(alone.values(), key=len)
    together = {"starts": sum(attacks[name]["starts"] for name in enough)}
    return _missing(WITH_GRADIENTS, " and ".join(enough), together)


def _step(effort: Mapping[str, float]) -> float | None:
    """The mean length of a step, in radii of the ball, of an attack that has such steps."""
    return effort["reach"] / effort["steps"] if "reach" in effort else None


def _of_attacks_without(evidence: Evidence) -> list[str]:
    names = attacks_of_kind(Kind.GRADIENT_FREE)
    missing = {
        name: _missing(name, name, evidence.effort[name])
        for name in evidence.attacks
        if name in names
    }
    return missing.get(SQUARE, min(missing.values(), key=len, default=[]))


def _missing(of: str, who: str, settings: Mapping[str, float | None]) -> list[str]:
    """Says which of the given settings miss their bounds; those not given are not asked."""
    return [
        f"{who} {floor.setting}={found:g} ({floor.says})".lstrip()
        for floor in FLOORS
        if floor.of == of
        and (found := settings.get(floor.setting)) is not None
        and not floor.least <= found <= floor.most
    ]


FLOOR_CHECKS = (too_weak,)
