"""What a check says."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any


class Weight(enum.Enum):
    """What a failed check means for the figure.

    `HIDES`: the model leads attacks astray, the figure is too high. `DOUBT`: the evaluation
    was too weak or too small to tell. `NOTE`: worth knowing, the figure stands.
    """

    HIDES = "hides"
    DOUBT = "doubt"
    NOTE = "note"


@dataclasses.dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Args:
        name: The check.
        passed: Whether nothing is wrong.
        value: What was measured.
        threshold: The bound that `value` has to keep.
        explanation: What was seen, a clause that can follow the verdict.
        remedy: What to do about a failure.
        weight: What a failure means.
    """

    name: str
    passed: bool
    value: float
    threshold: float
    explanation: str
    remedy: str
    weight: Weight

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON types."""
        return {**dataclasses.asdict(self), "weight": self.weight.value}
