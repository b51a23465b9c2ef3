"""What the checks look at: everything measured, and nothing of how."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from pnil_tf.evaluation.statistics import weakest

EVALUATION, CHECKS = "the evaluation", "the checks"

SQUARE = "square"
"""The attack that no verdict can do without: a search over scores alone."""

FEWEST_PLANTED = 10
"""Adversarial examples to be planted; of fewer nothing can be said."""


@dataclasses.dataclass(frozen=True)
class Gradients:
    """Input gradients at the unperturbed images, averaged over draws for a stochastic model.

    Args:
        cross_entropy_norm: `(n,)`, their l2 norm; NaN where a component is not finite.
        margin_norm: `(n,)`, the same of the margin loss.
        along_signs: `(n, lengths)`, how well the margin changes as its gradient predicts when an
            image is moved along the gradient's signs, over several lengths, the same noise at
            both ends: 1 if just so, 0 if it has nothing to do with it. NaN where nothing can be
            told.
        along_random: `(n, lengths)`, the same along random directions; for a model whose noise
            follows no seed of all images together, NaN where it drowns that.
        agreement: `(n,)`, cosine between two such averages over independent draws; 1 for a
            deterministic model.
        draws: Draws in each average.
    """

    cross_entropy_norm: np.ndarray
    margin_norm: np.ndarray
    along_signs: np.ndarray
    along_random: np.ndarray
    agreement: np.ndarray
    draws: int


@dataclasses.dataclass(frozen=True)
class NoiseCells:
    """Of a model with noise: {attack, judge} x {with, without, frozen noise}.

    Frozen noise is one draw, the same for all images, that attack and judge know. Each is
    `(n,)`, the share of right draws (without noise, and of frozen noise, there is one).

    Args:
        with_with: Noise for the attack and for the judge.
        clean_without: No attack. It and the next three are None where noise cannot be switched off.
        with_without: The attack with noise, the judge without.
        without_with: The attack without noise, the judge with it.
        without_without: Noise for neither.
        clean_frozen: No attack. It and the others are None where noise cannot be held.
        frozen_with: The attack under frozen noise, the judge under fresh draws.
        frozen_frozen: Frozen noise for both.
    """

    with_with: np.ndarray
    clean_without: np.ndarray | None = None
    with_without: np.ndarray | None = None
    without_with: np.ndarray | None = None
    without_without: np.ndarray | None = None
    clean_frozen: np.ndarray | None = None
    frozen_with: np.ndarray | None = None
    frozen_frozen: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Planted:
    """Adversarial examples that are there by construction, see `evaluation.planted`.

    All are `(m,)`, the share of draws that are fooled.

    Args:
        by_image: By the image itself.
        by_construction: By the planted example itself.
        by_attack: By the one that the attack came up with.
        by_chance: How many more there were, which do not count since random points found them.
    """

    by_image: np.ndarray
    by_construction: np.ndarray
    by_attack: np.ndarray
    by_chance: int = 0


@dataclasses.dataclass(frozen=True)
class NothingPlanted:
    """That none could be.

    Args:
        images: How many images allow for one; fewer than `FEWEST_PLANTED`.
        why: What the others lack, a clause.
    """

    images: int
    why: str


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The measurements. Per-image shares `(n,)` are over the first n images, so they pair up.

    Args:
        classes: Number of classes.
        guessed: `(n,)`, whether the most frequent label is the image's.
        epsilon: Radius of the attacks.
        stochastic: Whether the model is.
        repeatable: Whether its noise follows the seed.
        outputs: `"logits"` or `"probabilities"`.
        saturated: Share of images whose probabilities are 0 for every class but one.
        clean: Share of right draws on unperturbed images.
        unanswered: Share of the draws on them whose answers are not finite.
        attacks: The accuracy under each attack, by name.
        halves: `(n, 2)`, the same in the even and in the odd draws; none for a deterministic model.
        effort: What was spent, by setting: of each attack under its name, and under
            `EVALUATION` and `CHECKS`.
        target_class: The one class that all attacks went towards, if there was one.
        checked: Images on which the measurements below were made; 0 if none were.
        epsilon_curve: `(radius, share)` under one attack, radii increasing.
        unbounded: Share at a radius that reaches any image.
        eot_curve: `(draws, share)` under one attack, draws increasing; stochastic models only.
        unchanged: Share under the attack of which there were stronger versions.
        stronger: Share under those, by what was made stronger.
        gradients: Input gradients.
        jumps: `(n,)`, how much of the change from class to class the model takes at one bound, see
            `probe_jumps`; None without checks, or where all images are taken for one class.
        planted: Planted adversarial examples, or why there are none; None without checks, or
            without an attack that follows gradients to search for them.
        cells: Attacks on copies of the model without noise, or with one draw of it; None where
            noise can neither be switched off nor held.
        loud: Layers of Keras whose noise cannot be switched off.
        called_to_train: Layers, each a phrase, that a plain call of the model puts into training;
            None of what is no Keras model.
        predicts_by_itself: Whether the model's class has a `predict_step` of its own.
        sigma: For each PNIL layer the mean standard deviation of its noise on the images.
    """

    classes: int
    guessed: np.ndarray
    epsilon: float
    stochastic: bool
    repeatable: bool
    outputs: str
    saturated: float
    clean: np.ndarray
    attacks: dict[str, np.ndarray]
    effort: Mapping[str, Mapping[str, float]]
    unanswered: float = 0.0
    halves: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    target_class: int | None = None
    checked: int = 0
    epsilon_curve: tuple[tuple[float, np.ndarray], ...] = ()
    unbounded: np.ndarray | None = None
    eot_curve: tuple[tuple[int, np.ndarray], ...] = ()
    unchanged: np.ndarray | None = None
    stronger: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    gradients: Gradients | None = None
    jumps: np.ndarray | None = None
    planted: Planted | NothingPlanted | None = None
    cells: NoiseCells | None = None
    loud: tuple[str, ...] = ()
    called_to_train: tuple[str, ...] | None = None
    predicts_by_itself: bool = False
    sigma: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def guessing(self) -> float:
        """Accuracy of always answering the most frequent class."""
        return float(self.guessed.mean())

    def strongest(self, names: tuple[str, ...] | None = None) -> tuple[str, np.ndarray] | None:
        """The attack (out of `names`) that leaves the lowest accuracy, if any of them ran."""
        ran = {name: s for name, s in self.attacks.items() if names is None or name in names}
        if not ran:
            return None
        best = weakest(ran)
        return best, ran[best]

    def reference(self) -> np.ndarray:
        """The lowest accuracy of any attack that covers the images the checks used."""
        covering = [share for share in self.attacks.values() if len(share) >= self.checked]
        return min(
            (share[: self.checked] for share in covering or self.attacks.values()),
            key=lambda share: float(share.mean()),
        )
