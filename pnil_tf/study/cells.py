"""What is trained: one cell is one classifier of the paper's experiment. Imports no TensorFlow."""

from __future__ import annotations

import dataclasses
from typing import Any

from pnil_tf.training.settings import PAPER_MODEL, ModelSettings

TRAINING_ATTACKS = ("rfgsm", "nfgsm")

# Where the default start of the noise is too small to guard against catastrophic overfitting.
_LARGER_START = {("mnist", 0.3): 0.37}


@dataclasses.dataclass(frozen=True)
class Part:
    """A data set at one scale, and how often each of its classifiers is trained.

    Args:
        dataset: Name of the data set.
        epsilon: Radius of the l_inf ball, in units of pixels in [0, 1].
        repeats: Repeats of two-fold cross-validation; 0 trains once on the predefined split.
        folds: How many of the two folds are trained.
        attacks: Training attacks.
        effort: Name of what a cell may cost, in the budget; `None` is its classifier's name.
    """

    dataset: str
    epsilon: float
    repeats: int = 1
    folds: int = 2
    attacks: tuple[str, ...] = TRAINING_ATTACKS
    effort: str | None = None


@dataclasses.dataclass(frozen=True)
class Cell:
    """One classifier to train.

    Two cells that differ in `pnil` or `attack` alone share the seed and the images, hence the
    first weights and the order of the images: they are a pair.

    Args:
        dataset: Name of the data set.
        epsilon: Radius of the l_inf ball, in units of pixels in [0, 1].
        attack: Training attack.
        pnil: Whether a `PNILLayer` stands in front.
        repeat: Repeat of the cross-validation; `None` trains on the predefined split.
        fold: 0 or 1, the half that it trains on; `None` together with `repeat`.
    """

    dataset: str
    epsilon: float
    attack: str
    pnil: bool
    repeat: int | None = None
    fold: int | None = None

    @property
    def name(self) -> str:
        """Name of the cell's folder."""
        parts = [self.dataset, f"eps{self.epsilon:.4g}", self.attack]
        parts += ["pnil"] if self.pnil else []
        parts += [] if self.fold is None else [f"repeat{self.repeat}", f"fold{self.fold}"]
        return "_".join(parts)

    @property
    def seed(self) -> int:
        """Seed of weights, order of images and noise."""
        return 2 * (self.repeat or 0) + (self.fold or 0)

    @property
    def model(self) -> str:
        """Name of the classifier, the paper's for the data set."""
        return PAPER_MODEL[self.dataset]

    @property
    def pnil_sigma(self) -> float:
        """Standard deviation with which the layer's noise starts."""
        return _LARGER_START.get((self.dataset, self.epsilon), ModelSettings.pnil_sigma)

    def to_json(self) -> dict[str, Any]:
        """The fields; `Cell(**fields)` is equal to this one."""
        return dataclasses.asdict(self)


def cells_of(part: Part) -> list[Cell]:
    """Returns a part's cells so that a repeat is complete before the next one begins."""
    runs: list[tuple[int | None, int | None]] = [
        (repeat, fold) for repeat in range(part.repeats) for fold in range(part.folds)
    ]
    return [
        Cell(part.dataset, part.epsilon, attack, pnil, repeat, fold)
        for repeat, fold in runs or [(None, None)]
        for attack in part.attacks
        for pnil in (False, True)
    ]
