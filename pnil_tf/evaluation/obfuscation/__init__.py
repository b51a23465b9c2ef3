"""Is the robustness real? Small independent checks, each a function from evidence to a finding.

The symptoms of gradients that mislead instead of guiding an attack are those of Athalye,
Carlini and Wagner (2018), "Obfuscated Gradients Give a False Sense of Security", and the
checklist of Carlini et al. (2019), "On Evaluating Adversarial Robustness". A difference counts
only if it is larger than its tolerance and its 95 % interval excludes zero.
"""

from __future__ import annotations

import dataclasses

from pnil_tf.evaluation.finding import Finding, Weight
from pnil_tf.evaluation.obfuscation.effort import EFFORT_CHECKS
from pnil_tf.evaluation.obfuscation.evidence import Evidence
from pnil_tf.evaluation.obfuscation.floors import FLOOR_CHECKS, too_weak
from pnil_tf.evaluation.obfuscation.gradients import GRADIENT_CHECKS
from pnil_tf.evaluation.obfuscation.guessing import GUESSING_CHECKS
from pnil_tf.evaluation.obfuscation.noise import NOISE_CHECKS
from pnil_tf.evaluation.obfuscation.strength import STRENGTH_CHECKS

CHECKS = (
    *GUESSING_CHECKS,
    *STRENGTH_CHECKS,
    *GRADIENT_CHECKS,
    *NOISE_CHECKS,
    *FLOOR_CHECKS,
    *EFFORT_CHECKS,
)


def run_checks(evidence: Evidence) -> list[Finding]:
    """Returns the findings of every check that applies to this evidence.

    An attack too weak for a verdict proves nothing by losing to another: where settings are below
    the floors, a comparison of attacks is no more than a doubt.
    """
    weak = not too_weak(evidence).passed
    findings = []
    for check in CHECKS:
        finding = check(evidence)
        if finding is None:
            continue
        if weak and check in STRENGTH_CHECKS and finding.weight is Weight.HIDES:
            finding = dataclasses.replace(finding, weight=Weight.DOUBT)
        findings.append(finding)
    return findings
