"""What a user can ask of an evaluation, checked as soon as it is said. Imports no TensorFlow."""

from __future__ import annotations

import dataclasses
from typing import Any

from pnil_tf.contract.pixel_range import check_epsilon
from pnil_tf.errors import UserError, argument
from pnil_tf.validation import (
    MOST_DRAWS,
    check_types,
    require_count,
    require_known,
    require_one_of,
    require_positive,
)
from pnil_tf.vocabulary import ATTACKS, AVERAGES, EFFORTS, LOSSES, NORMS, SUITES

_MAX_SEED = 2**63
_OF_SPSA = ("spsa_samples", "spsa_steps", "spsa_eot_samples")


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """Settings of one evaluation.

    Args:
        epsilon: Radius of the ball, > 0, as a share of the pixel range.
        attacks: Names out of `ATTACKS`, or of `SUITES` for those that belong to it.
        steps: Steps of `pgd` and `pgd_strong`; None keeps each attack's default. So for the
            next three.
        step_size: Length of their steps (of `pgd_strong`, of the first), > 0, in units of pixels.
        restarts: Their random starts; each image keeps the one that fools the model most. In l_2
            `pgd` has none.
        loss: What they make large: one of `LOSSES`, or several joined by `+`.
        average: `"loss"` averages the loss over the draws of a gradient, `"logits"` takes the
            loss of the mean logits.
        eot_samples: Draws over which a stochastic model's gradient is averaged.
        images: Test images to evaluate on: the first ones of the test set.
        seed: Every random number of the evaluation follows from it.
        norm: `"linf"` or `"l2"`.
        judge_draws: R, the fresh draws by which each image of a stochastic model is judged.
        spsa_images: SPSA attacks the first `spsa_images` of the images.
        spsa_samples: Evaluations behind each of SPSA's gradient estimates, even.
        spsa_steps: Steps of SPSA, of about 0.01 each: together they must cross the ball.
        spsa_eot_samples: Draws of the noise for each of those evaluations.
        check_images: Images on which the checks for hidden gradients run their own attacks.
        check_draws: EOT draws of those attacks; never more than `eot_samples`.
        batch_size: Images attacked at once, and the unit of work that `resume` can keep; the random
            numbers follow from it. None for 100, or as many as fit into memory where the images
            and the network are large.
        epsilons: Radii of the curve of accuracy over epsilon; empty for multiples of `epsilon`.
        faithful: Whether attacks run exactly as in the paper, without what makes them faster.
        checks: Whether to look for hidden gradients. Without, a verdict is 'doubtful' at best.
        save_adversarial: Whether the adversarial images are written, too.
        targeted: Whether attacks go towards the classes that their gradients reach first, three of
            them one after another, instead of away from the label. Attacks that choose classes
            by themselves do so as always.
        target_class: One class that every attack goes towards instead; images of this class stay
            as they are. The verdict is then 'doubtful' at best.
        effort: What the settings were chosen by, one of `EFFORTS`, see
            `pnil_tf.evaluation.effort`; by itself it changes nothing.

    Raises:
        UserError: If a value cannot be right, whatever the model.
    """

    epsilon: float
    attacks: tuple[str, ...] = ("auto",)
    steps: int | None = None
    step_size: float | None = None
    restarts: int | None = None
    loss: str | None = None
    average: str = "loss"
    eot_samples: int = 100
    images: int = 1000
    seed: int = 0
    norm: str = "linf"
    judge_draws: int = 100
    spsa_images: int = 1000
    spsa_samples: int = 2048
    spsa_steps: int = 100
    spsa_eot_samples: int = 1
    check_images: int = 100
    check_draws: int = 8
    batch_size: int | None = None
    epsilons: tuple[float, ...] = ()
    faithful: bool = False
    checks: bool = True
    save_adversarial: bool = False
    targeted: bool = False
    target_class: int | None = None
    effort: str = "standard"

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("images", "spsa_images", "check_images", *_OF_SPSA):
            require_count(name, getattr(self, name))
        for name in ("judge_draws", "eot_samples", "check_draws", "spsa_eot_samples"):
            require_count(name, getattr(self, name), MOST_DRAWS)
        for name in ("steps", "restarts", "batch_size"):
            if getattr(self, name) is not None:
                require_count(name, getattr(self, name))
        for name, value in [("epsilon", self.epsilon), *(("epsilons", e) for e in self.epsilons)]:
            require_positive(name, value)
        if self.step_size is not None:
            require_positive("step_size", self.step_size)
        if self.spsa_samples % 2:
            raise UserError(
                f"SPSA evaluates pairs: {argument('spsa_samples')} must be even. Received: "
                f"{self.spsa_samples}."
            )
        require_one_of("norm", self.norm, NORMS)
        require_one_of("average", self.average, AVERAGES)
        require_one_of("effort", self.effort, EFFORTS)
        for loss in [] if self.loss is None else self.loss.split("+"):
            require_one_of("loss", loss, LOSSES)
        if not 0 <= self.seed < _MAX_SEED:
            raise UserError(
                f"{argument('seed')} must be from 0 to 2**63 - 1. Received: {self.seed!r}."
            )
        if self.target_class is not None and self.target_class < 0:
            raise UserError(
                f"{argument('target_class')} must be a class, 0 or greater. Received: "
                f"{self.target_class}."
            )
        if self.target_class is not None and self.targeted:
            raise UserError(
                "Attacks go towards the classes that gradients reach first, or towards one that "
                f"is named. Received: {argument('targeted', True)} and "
                f"{argument('target_class', self.target_class)}. Leave one out."
            )
        check_epsilon(max((self.epsilon, *self.epsilons)), self.norm)
        if self.epsilons and not self.checks:
            raise UserError(
                "The curve over epsilon is one of the checks. Received: "
                f"{argument('epsilons', self.epsilons)} without {argument('checks')}. Leave the "
                "curve out, or check."
            )
        known = (*SUITES, *ATTACKS)
        if not self.attacks:
            raise UserError(f"No attack was named. Name one or more of {', '.join(known)}.")
        for name in self.attacks:
            require_known("attack", name, known)
        if len(set(self.attacks)) != len(self.attacks):
            raise UserError(f"Each attack can be named once. Received: {', '.join(self.attacks)}.")

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON types; `EvaluationSettings` of them is equal to this one."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }
