"""What is known of a model besides its weights: its training, its figures, its classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

PREPROCESSING = "preprocessing.json"
"""The file of an export that says how images become the classifier's input."""


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """A measured accuracy.

    Args:
        name: On what, one phrase.
        value: The share of right answers, with its 95 % interval `low` to `high`.
        images: How many images it was measured on.
    """

    name: str
    value: float
    low: float
    high: float
    images: int


@dataclasses.dataclass(frozen=True)
class Record:
    """What is known of a model. Everything may be unknown.

    Args:
        name: What to call the model.
        data: Name of the data set it was trained on.
        class_names: One name per class, in the order of the logits.
        resized: Whether training brought the images to the model's size.
        training: Settings of the training, by name.
        accuracies: What was measured.
        verdict: What the evaluation concludes, one sentence.
        note: What a reader of the figures must know.
    """

    name: str = "classifier"
    data: str | None = None
    class_names: tuple[str, ...] = ()
    resized: bool = False
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    accuracies: tuple[Accuracy, ...] = ()
    verdict: str | None = None
    note: str | None = None
