"""What an attack says of itself: the shape of the files of this room that are attacks."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from pnil_tf.attacks.eot import EOT, Predict
from pnil_tf.attacks.search import Search
from pnil_tf.attacks.settings import AttackSettings


class Kind(enum.Enum):
    """What an attack proves when it fails."""

    GRADIENT = "gradient"
    """A search of many steps along gradients."""

    GRADIENT_FREE = "gradient-free"
    """A search that looks at outputs alone: hidden gradients do not stop it."""

    SANITY = "sanity"
    """What any real attack must beat."""


@dataclasses.dataclass(frozen=True)
class Wishes:
    """What is settled before an attack's defaults are filled in around it.

    Args:
        epsilon: Radius of the ball.
        steps: Number of steps, if one was asked for.
        norm: Norm of the radius.
        draws: Draws of a gradient.
        faithful: Whether the paper's plain procedure is asked for.
        stochastic: Whether the classifier has noise.
    """

    epsilon: float
    steps: int | None
    norm: str
    draws: int
    faithful: bool
    stochastic: bool


def one_draw(faithful: bool) -> EOT:
    """The draws of an attack that averages nothing unless asked to."""
    del faithful
    return EOT()


def gradient_draws(faithful: bool) -> EOT:
    """The draws of an attack that follows gradients: the paper's number, in pairs if allowed."""
    # The chunk changes no result: a GPU needs large passes.
    return EOT(100, 20 if on_gpu() else 5, antithetic=not faithful)


def on_gpu() -> bool:
    """Whether the work is done on a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


OF_AVERAGED_GRADIENTS = {"draws": "eot_samples", "average": "average"}
"""`Attack.options` of an attack that averages gradients."""

OF_GRADIENT_STEPS = {
    **OF_AVERAGED_GRADIENTS,
    **{name: name for name in ("steps", "step_size", "restarts", "loss")},
}
"""`Attack.options` of an attack of many gradient steps."""


@dataclasses.dataclass(frozen=True)
class Attack:
    """An attack of the evaluation.

    Args:
        kind: What it is.
        defaults: Its settings where nothing else was asked for, as fields of `settings`;
            `step_size` among them.
        build: Makes of a classifier and settings the search that is run.
        settings: Type of its settings; its `check` refuses what the attack cannot do.
        eot: `(faithful) -> draws` unless others are asked for.
        options: Which of an evaluation's options it follows: `{field of its settings, or
            'draws' or 'average': name of the option}`.
        images: The evaluation's option that says how many images it attacks.
        most_draws: Draws that are enough: an evaluation that asks for more gets these.
        towards: Whether it can be sent to a class.
        ignores: Fields of its settings that mean nothing to it; `eot` among them if it averages
            no gradient.
        floors: For an attack without gradients the least of its `steps`, `images` and the like on
            which a verdict can rest; those of attacks with gradients are the same for all.
        loss: What it makes large where this is none of `LOSSES`, in words.
    """

    kind: Kind
    defaults: Callable[[Wishes], dict[str, Any]]
    build: Callable[[Predict, Any], Search]
    settings: type[AttackSettings] = AttackSettings
    eot: Callable[[bool], EOT] = one_draw
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    images: str = "images"
    most_draws: int | None = None
    towards: bool = True
    ignores: frozenset[str] = frozenset()
    floors: Mapping[str, int] = dataclasses.field(default_factory=dict)
    loss: str | None = None
