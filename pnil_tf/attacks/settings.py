"""The settings of the evaluation's attacks, and their defaults by name."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import tensorflow as tf

from pnil_tf.attacks.eot import EOT
from pnil_tf.attacks.losses import LOSSES
from pnil_tf.attacks.one_step import NORMS
from pnil_tf.errors import UserError

EVALUATION_ATTACKS = ("pgd", "pgd_strong", "spsa", "fgsm", "noise")

# Shares of (steps, draws).
_ALL_DRAWS = ((1.0, 1.0),)
# While steps are long a rough direction will do; the last, short ones need a fine one.
_GROWING_DRAWS = ((0.6, 0.04), (0.3, 0.2), (0.1, 1.0))
_ONE_DRAW = EOT()
_OF_EOT = {"draws", "antithetic", "average"}
# Thinned out below this, a gradient would rest on too few draws.
_ENOUGH_TO_THIN = 40


@dataclasses.dataclass(frozen=True)
class AttackSettings:
    """One attack of the evaluation. `dataclasses.asdict` makes it ready for JSON.

    `attack_settings` fills in the defaults that belong to a name; sizes are in units of the
    pixels.

    Args:
        name: `"pgd"`, `"pgd_strong"`, `"spsa"`, `"fgsm"` or `"noise"`.
        epsilon: Radius of the ball around each image, > 0.
        steps: Number of steps.
        step_size: Length of the first step, > 0; for SPSA, Adam's learning rate.
        step_decay: Length of the last step over that of the first, in (0, 1]; the steps
            shrink geometrically. `pgd_strong` alone may have other than 1.
        momentum: Share of the past, in [0, 1), in the running mean of the gradients that `pgd`
            and `pgd_strong` follow.
        restarts: Number of starts. Each image keeps the result that fools the model most.
        random_start: Whether the search starts at a random point of the ball, not at x.
        norm: `"linf"` or `"l2"` (not for SPSA).
        loss: `"cross_entropy"`, `"margin"` or `"dlr"`; or several, joined by `+`, and then
            every restart runs once with each.
        targeted: Whether the labels given are classes to reach instead of classes to leave.
        eot: Draws over which a gradient is averaged (SPSA: evaluations of each point).
        schedule: Shares of the steps and of `eot.draws` used in them, `((steps, draws), ...)`;
            shares of steps sum to 1.
        samples: Evaluations of an SPSA gradient, even.
        delta: Distance from the image at which SPSA evaluates.
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
    schedule: tuple[tuple[float, float], ...] = _ALL_DRAWS
    samples: int = 2048
    delta: float = 0.01
    clip_min: float = 0.0
    clip_max: float = 1.0
    max_evaluations_in_flight: int = 2048
    check_every: int = 0
    faithful: bool = False

    def __post_init__(self) -> None:
        _one_of("attack", self.name, EVALUATION_ATTACKS)
        _one_of("norm", self.norm, tuple(NORMS))
        for loss in self.losses:
            _one_of("loss", loss, tuple(LOSSES))
        for field in ("epsilon", "step_size", "delta"):
            value = getattr(self, field)
            if not _is_number(value) or value <= 0:
                raise UserError(f"{self._here} needs {field} > 0. Received: {value!r}.")
        for field in ("steps", "restarts", "samples", "max_evaluations_in_flight"):
            value = getattr(self, field)
            if not _is_whole(value) or value < 1:
                raise UserError(
                    f"{self._here} needs {field} >= 1, a whole number. Received: {value!r}."
                )
        if not _is_whole(self.check_every) or self.check_every < 0:
            raise UserError(
                f"{self._here} needs check_every >= 0, a whole number. "
                f"Received: {self.check_every!r}."
            )
        if not (_is_number(self.clip_min) and _is_number(self.clip_max)) or (
            self.clip_min >= self.clip_max
        ):
            raise UserError(
                f"{self._here} needs clip_min < clip_max. "
                f"Received: clip_min={self.clip_min!r}, clip_max={self.clip_max!r}."
            )
        self._check_search()
        self._check_schedule()

    @property
    def losses(self) -> tuple[str, ...]:
        """The losses that `loss` names."""
        return tuple(self.loss.split("+"))

    @property
    def _here(self) -> str:
        return f"The attack {self.name!r}"

    def _check_search(self) -> None:
        if self.name == "spsa" and self.samples % 2:
            raise UserError(
                f"SPSA evaluates pairs, so it needs an even number of samples. "
                f"Received: samples={self.samples}. Use {self.samples + 1}."
            )
        if self.name == "spsa" and self.norm != "linf":
            raise UserError(
                f"SPSA works in the l_inf ball alone. Received: norm={self.norm!r}. "
                "Leave it out of the attacks, or use norm='linf'."
            )
        if not _is_number(self.step_decay) or not 0 < self.step_decay <= 1:
            raise UserError(
                f"{self._here} needs 0 < step_decay <= 1. Received: {self.step_decay!r}."
            )
        if self.step_decay != 1 and self.name != "pgd_strong":
            raise UserError(
                f"{self._here} has steps of one length. Received: step_decay={self.step_decay!r}. "
                "Use the attack 'pgd_strong' for steps that shrink."
            )
        if not _is_number(self.momentum) or not 0 <= self.momentum < 1:
            raise UserError(f"{self._here} needs 0 <= momentum < 1. Received: {self.momentum!r}.")
        if self.name == "pgd" and self.step_size > self.epsilon:
            raise UserError(
                f"Cleverhans' PGD needs step_size <= epsilon. Received: step_size="
                f"{self.step_size!r}, epsilon={self.epsilon!r}. Use the attack 'pgd_strong'."
            )
        if self.name == "pgd" and self.norm == "l2":
            if self.random_start or self.restarts > 1:
                raise UserError(
                    "Cleverhans' PGD has no random start in l2 that follows a seed, so restarts "
                    f"would repeat one another. Received: restarts={self.restarts}, "
                    f"random_start={self.random_start}. Use the attack 'pgd_strong', which has."
                )
            if self.check_every:
                raise UserError(
                    "Cleverhans' PGD in l2 measures its ball from where it starts and cannot "
                    f"pause. Received: check_every={self.check_every}. Use the attack "
                    "'pgd_strong', or check_every=0."
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


def attack_settings(name: str, epsilon: float, **overrides: Any) -> AttackSettings:
    """Returns the settings that belong to an attack's name.

    ==========  =====  ===================  ========  ======================  ============
    name        steps  step                 restarts  loss                    random start
    ==========  =====  ===================  ========  ======================  ============
    pgd         50     2 eps / steps        1         cross-entropy           yes (not l2)
    pgd_strong  100    eps / 3 -> eps / 30  2         cross-entropy + margin  yes
    spsa        100    0.01 (Adam)          1         margin                  yes
    fgsm        1      eps                  1         cross-entropy           no
    noise       1      none                 1         none                    is the attack
    ==========  =====  ===================  ========  ======================  ============

    `pgd` and `spsa` are the paper's: 100 draws for each gradient, 2,048 evaluations for each
    SPSA step. Unless `faithful`, draws come in antithetic pairs and lost images leave the work;
    of 40 draws or more `pgd` takes a quarter at each step, which is then 2.2 eps / steps long,
    and follows a running mean over the steps; `pgd_strong` takes few draws at
    first and the full number in the last tenth of the steps.

    Args:
        name: A name of the table.
        epsilon: Radius of the ball, > 0, in units of the pixels.
        **overrides: Fields of `AttackSettings` to set otherwise; also `draws`, `antithetic`
            and `average`, which change these fields of `eot` alone.

    Raises:
        UserError: If a name or a value is not valid.
    """
    _one_of("attack", name, EVALUATION_ATTACKS)
    fields = {field.name for field in dataclasses.fields(AttackSettings)} - {"name", "epsilon"}
    unknown = sorted(set(overrides) - fields - _OF_EOT)
    if unknown:
        raise UserError(
            f"An attack has no such setting. Received: {', '.join(unknown)}. "
            f"Choose from {', '.join(sorted(fields | _OF_EOT))}."
        )
    if not _is_number(epsilon) or epsilon <= 0:
        raise UserError(f"The attack {name!r} needs epsilon > 0. Received: {epsilon!r}.")

    faithful = bool(overrides.get("faithful", False))
    eot = overrides.get("eot")
    if eot is None:
        # The chunk changes no result: a GPU needs large passes.
        gradients = name in ("pgd", "pgd_strong", "fgsm")
        eot = EOT(100, 20 if _on_gpu() else 5, antithetic=not faithful) if gradients else EOT()
    of_eot = {key: overrides[key] for key in _OF_EOT if overrides.get(key) is not None}
    eot = dataclasses.replace(eot, **of_eot)
    # A wrong number of steps is refused at the end; until then there must be one.
    wanted = overrides.get("steps")
    steps = wanted if isinstance(wanted, int) and wanted > 0 else None

    values: dict[str, Any] = {
        "steps": 1,
        "step_size": epsilon,
        "max_evaluations_in_flight": 4096 if _on_gpu() else 2048,
    }
    if name == "pgd":
        norm = overrides.get("norm", "linf")
        values |= _pgd(epsilon, steps or 50, norm, faithful or eot.draws < _ENOUGH_TO_THIN)
    elif name == "pgd_strong":
        values |= _pgd_strong(epsilon, steps or 100, faithful)
    elif name == "spsa":
        values |= {"steps": 100, "step_size": 0.01, "loss": "margin", "random_start": True}
        values["check_every"] = 5
    elif name == "noise":
        values["random_start"] = True
    if faithful:
        values["check_every"] = 0
    values |= {key: value for key, value in overrides.items() if key not in _OF_EOT}
    return AttackSettings(**{**values, "name": name, "epsilon": epsilon, "eot": eot})


def _pgd(epsilon: float, steps: int, norm: str, all_draws: bool) -> dict[str, Any]:
    values = {
        "steps": steps,
        "step_size": min(2 / steps, 1.0) * epsilon,
        "random_start": norm == "linf",
        "check_every": 10 if norm == "linf" else 0,
    }
    if all_draws:
        return values
    # With a quarter of the draws more pixels take some steps the wrong way. The running mean
    # prevents most of that, the longer step makes up for the rest. Measured on a noisy MNIST
    # model (eps 0.3, 100 images, two seeds): 10.5 % left, against 10.6 % with all draws.
    return values | {
        "step_size": min(2.2 / steps, 1.0) * epsilon,
        "schedule": ((1.0, 0.25),),
        "momentum": 0.5,
    }


def _pgd_strong(epsilon: float, steps: int, faithful: bool) -> dict[str, Any]:
    return {
        "steps": steps,
        # However few the steps, together they must be able to cross the ball.
        "step_size": min(max(1 / 3, 10 / steps), 1.0) * epsilon,
        "step_decay": 0.1,
        "restarts": 2,
        "random_start": True,
        "loss": "cross_entropy+margin",
        "schedule": _ALL_DRAWS if faithful else _GROWING_DRAWS,
        "check_every": 10,
    }


def _on_gpu() -> bool:
    return bool(tf.config.list_physical_devices("GPU"))


def _one_of(what: str, value: Any, names: tuple[str, ...]) -> None:
    if value not in names:
        raise UserError(
            f"No {what} has this name. Received: {value!r}. Choose from {', '.join(names)}."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
