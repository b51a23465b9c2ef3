"""The settings that attacks of the evaluation share, and their checks."""

from __future__ import annotations

import dataclasses
import math

from pnil_tf.attacks.eot import EOT
from pnil_tf.errors import UserError
from pnil_tf.validation import is_number, is_whole, require_known, use_plain_numbers
from pnil_tf.vocabulary import ATTACKS, LOSSES, NORMS

ALL_DRAWS = ((1.0, 1.0),)
"""A schedule, shares of (steps, draws): all draws at every step."""

_ONE_DRAW = EOT()


@dataclasses.dataclass(frozen=True)
class AttackSettings:
    """One attack of the evaluation. `dataclasses.asdict` makes it ready for JSON.

    `attack_settings` fills in the defaults that belong to a name; sizes are in units of the
    pixels. An attack with settings of its own has a type of its own, in its file.

    Args:
        name: The attack, out of `ATTACKS`.
        epsilon: Radius of the ball around each image, > 0.
        steps: Number of steps.
        step_size: Length of the first step, > 0.
        step_decay: Length of the last step over that of the first, in (0, 1]; the steps
            shrink geometrically. Few attacks may have other than 1.
        momentum: Share of the past, in [0, 1), in the running mean of the gradients that an
            attack follows.
        restarts: Number of starts. Each image keeps the result that fools the model most.
        random_start: Whether the search starts at a random point of the ball, not at x.
        norm: `"linf"` or `"l2"`.
        loss: `"cross_entropy"`, `"margin"` or `"dlr"`; or several, joined by `+`, and then
            every restart runs once with each.
        targeted: Whether the labels given are classes to reach instead of classes to leave.
        eot: Draws over which a gradient is averaged (without gradients, evaluations of a point).
        schedule: Shares of the steps and of `eot.draws` used in them, `((steps, draws), ...)`;
            shares of steps sum to 1.
        clip_min: Smallest pixel.
        clip_max: Largest pixel.
        max_evaluations_in_flight: Most images in one forward pass, fewer where they are large.
        check_every: After so many steps, images that are already lost leave the work; 0 for
            never.
        faithful: The paper's plain procedure: full draws at every step, independent draws, no
            image leaves.
    """

    name: str
    epsilon: float
    steps: int
    step_size: float
    step_decay: float = 1.0
    momentum: float = 0.0
    restarts: int = 1
    random_start: bool = False
    norm: str = "linf"
    loss: str = "cross_entropy"
    targeted: bool = False
    eot: EOT = _ONE_DRAW
    schedule: tuple[tuple[float, float], ...] = ALL_DRAWS
    clip_min: float = 0.0
    clip_max: float = 1.0
    max_evaluations_in_flight: int = 2048
    check_every: int = 0
    faithful: bool = False

    def __post_init__(self) -> None:
        use_plain_numbers(self)
        require_known("attack", self.name, ATTACKS)
        require_known("norm", self.norm, NORMS)
        for loss in self.losses:
            require_known("loss", loss, LOSSES)
        for field in ("epsilon", "step_size"):
            self._require_positive(field)
        for field in ("steps", "restarts", "max_evaluations_in_flight"):
            self._require_count(field)
        if not is_whole(self.check_every) or self.check_every < 0:
            raise UserError(
                f"{self._here} needs check_every >= 0, a whole number. "
                f"Received: {self.check_every!r}."
            )
        if not (is_number(self.clip_min) and is_number(self.clip_max)) or (
            self.clip_min >= self.clip_max
        ):
            raise UserError(
                f"{self._here} needs clip_min < clip_max. "
                f"Received: clip_min={self.clip_min!r}, clip_max={self.clip_max!r}."
            )
        if not is_number(self.step_decay) or not 0 < self.step_decay <= 1:
            raise UserError(
                f"{self._here} needs 0 < step_decay <= 1. Received: {self.step_decay!r}."
            )
        if not is_number(self.momentum) or not 0 <= self.momentum < 1:
            raise UserError(f"{self._here} needs 0 <= momentum < 1. Received: {self.momentum!r}.")
        self._check_schedule()
        self.check()

    def check(self) -> None:
        """Refuses what this attack in particular cannot do.

        Raises:
            UserError: If the settings ask for that.
        """
        if self.step_decay != 1:
            raise UserError(
                f"{self._here} has steps of one length. Received: step_decay={self.step_decay!r}. "
                "Use the attack 'pgd_strong' for steps that shrink."
            )

    @property
    def losses(self) -> tuple[str, ...]:
        """The losses that `loss` names."""
        return tuple(self.loss.split("+"))

    @property
    def starts(self) -> int:
        """How often the search begins: each restart once with every loss."""
        return self.restarts * len(self.losses)

    @property
    def _here(self) -> str:
        return f"The attack {self.name!r}"

    def _require_positive(self, field: str) -> None:
        value = getattr(self, field)
        if not is_number(value) or value <= 0:
            raise UserError(f"{self._here} needs {field} > 0. Received: {value!r}.")

    def _require_count(self, field: str) -> None:
        value = getattr(self, field)
        if not is_whole(value) or value < 1:
            raise UserError(
                f"{self._here} needs {field} >= 1, a whole number. Received: {value!r}."
            )

    def _check_schedule(self) -> None:
        valid = bool(self.schedule) and all(
            len(phase) == 2 and 0 < phase[0] <= 1 and 0 < phase[1] <= 1 for phase in self.schedule
        )
        if not valid or not math.isclose(sum(steps for steps, _ in self.schedule), 1.0):
            raise UserError(
                "A draw schedule is pairs (share of the steps, share of the draws), each share in "
                f"(0, 1], those of the steps summing to 1. Received: {self.schedule!r}."
            )
        if self.faithful and (
            self.check_every
            or self.momentum
            or self.eot.antithetic
            or any(draws != 1 for _, draws in self.schedule)
        ):
            raise UserError(
                "A faithful attack draws independently, draws fully at every step, forgets past "
                "gradients and checks no image early. Received: "
                f"antithetic={self.eot.antithetic}, schedule={self.schedule}, "
                f"momentum={self.momentum}, check_every={self.check_every}. "
                "Leave these out or set faithful=False."
            )
