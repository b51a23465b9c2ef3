"""How much an evaluation does, in one word. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.validation import require_fields, require_one_of
from pnil_tf.vocabulary import EFFORTS

# Quick settings lie below the floors on which a verdict can rest (obfuscation/floors.py): what a
# first look sees may be bad news, but never good news.
_OF_EFFORT: dict[str, dict[str, Any]] = {
    "quick": {
        "images": 100,
        "steps": 20,
        "eot_samples": 8,
        "judge_draws": 20,
        "check_images": 25,
        "check_draws": 2,
        "spsa_steps": 20,
        "spsa_samples": 128,
    },
    "standard": {},
    "thorough": {
        "attacks": ("autoattack", "pgd_strong", "pgd", "fgsm", "noise"),
        "images": 10_000,
        "restarts": 5,
        "steps": 200,
        "check_images": 500,
        "check_draws": 20,
        "judge_draws": 200,
    },
}
assert tuple(_OF_EFFORT) == EFFORTS


def settings_of_effort(effort: str) -> dict[str, Any]:
    """Returns the settings that an effort sets, as fields of `EvaluationSettings`.

    Raises:
        UserError: If no effort has this name.
    """
    require_one_of("effort", effort, EFFORTS)
    return {**_OF_EFFORT[effort], "effort": effort}


def settings_with(
    effort: str, given: Mapping[str, Any], others: Collection[str] = ()
) -> EvaluationSettings:
    """Returns the settings of an effort where nothing else was given.

    Args:
        effort: One of `EFFORTS`.
        given: Fields of `EvaluationSettings`.
        others: Further arguments that the caller has, to be named where a name is unknown.

    Raises:
        UserError: If there is no such effort or setting, or a value cannot be right.
    """
    require_fields("An evaluation", EvaluationSettings, given, others)
    return EvaluationSettings(**{**settings_of_effort(effort), **given})
