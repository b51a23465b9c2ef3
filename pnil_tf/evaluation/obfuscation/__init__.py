"""Is the robustness real? Small independent checks, each a function from evidence to a finding.

The symptoms of gradients that mislead instead of guiding an attack are those of Athalye,
Carlini and Wagner (2018), "Obfuscated Gradients Give a False Sense of Security", and the
checklist of Carlini et al. (2019), "On Evaluating Adversarial Robustness". A difference counts
only if it is larger than its tolerance and its 95 % interval excludes zero.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from pnil_tf.attacks.attack import Kind
from pnil_tf.attacks.registry import attacks_of_kind
from pnil_tf.evaluation.finding import Finding, Weight
from pnil_tf.evaluation.obfuscation.answers import ANSWER_CHECKS
from pnil_tf.evaluation.obfuscation.compare import beyond, drop
from pnil_tf.evaluation.obfuscation.effort import EFFORT_CHECKS, planted_found
from pnil_tf.evaluation.obfuscation.evidence import Evidence
from pnil_tf.evaluation.obfuscation.floors import FLOOR_CHECKS, too_weak
from pnil_tf.evaluation.obfuscation.gradients import (
    GRADIENT_CHECKS,
    absent,
    direction,
    far,
    jumps,
    of_some,
)
from pnil_tf.evaluation.obfuscation.guessing import GUESSING_CHECKS
from pnil_tf.evaluation.obfuscation.noise import NOISE_CHECKS, frozen, noise_free
from pnil_tf.evaluation.obfuscation.strength import STRENGTH_CHECKS

_Check = Callable[[Evidence], Finding | None]

CHECKS: tuple[_Check, ...] = (
    *GUESSING_CHECKS,
    *ANSWER_CHECKS,
    *STRENGTH_CHECKS,
    *GRADIENT_CHECKS,
    *NOISE_CHECKS,
    *FLOOR_CHECKS,
    *EFFORT_CHECKS,
)


COMPARISONS = (*STRENGTH_CHECKS, frozen, noise_free)
"""The checks that hold attacks against each other."""


def run_checks(evidence: Evidence) -> list[Finding]:
    """Returns the findings of every check that applies to this evidence.

    An attack too weak for a verdict proves nothing by losing to another: a comparison of attacks
    is then no more than a doubt.
    """
    found = {check: check(evidence) for check in CHECKS}
    if _too_weak_to_compare(evidence, found):
        for check in COMPARISONS:
            finding = found[check]
            if finding is not None and finding.weight is Weight.HIDES:
                found[check] = dataclasses.replace(finding, weight=Weight.DOUBT)
    return [finding for finding in found.values() if finding is not None]


def _too_weak_to_compare(evidence: Evidence, found: Mapping[_Check, Finding | None]) -> bool:
    """Whether the attacks with gradients may lose for want of effort.

    So they may where a setting is below its floor, where none of them was run, where pgd_strong
    does better that was left out, and where they miss planted examples although the gradients are
    those of the function, over long moves, too.
    """

    def fails(check: _Check) -> bool:
        finding = found[check]
        return finding is not None and not finding.passed

    strongest = evidence.strongest(attacks_of_kind(Kind.GRADIENT))
    if fails(too_weak) or strongest is None:
        return True
    better = None if "pgd_strong" in evidence.attacks else evidence.unchanged
    if better is not None and beyond(drop(strongest[1], better)):
        return True
    return fails(planted_found) and not any(map(fails, (absent, direction, of_some, far, jumps)))
