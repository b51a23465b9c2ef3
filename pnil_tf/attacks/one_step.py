"""The attacks of training: a random start, then one gradient step or a few.

FGSM, R+FGSM, RFGSM, NFGSM, N-FGSM and PGD-k are one function, `craft`, under different
settings, `StepAttack`. `step_attack` knows the settings by the attacks' names.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf
from cleverhans.tf2.utils import clip_eta, optimize_linear

from pnil_tf import rng
from pnil_tf.attacks.ball import ORDERS, on_sphere, uniform_in_ball
from pnil_tf.attacks.class_start import mixed_start
from pnil_tf.attacks.eot import EOT, Loss, Predict, eot_gradient, peak_scaled
from pnil_tf.attacks.step_names import name_and_steps
from pnil_tf.errors import UserError
from pnil_tf.tensors import Images, Labels, Scalar, Seed, Shape, Tensor
from pnil_tf.validation import is_number, require_known, use_plain_numbers
from pnil_tf.vocabulary import NORMS, TRAINING_ATTACKS

# Multiples of epsilon: (start, its size, step, projected to the ball around x).
_NAMED = {
    "fgsm": ("none", 0.0, 1.0, True),
    "r+fgsm": ("sign", 0.5, 0.5, True),
    "rfgsm": ("uniform", 1.0, 1.2, True),
    "nfgsm": ("uniform", 1.0, 1.0, False),
    "n-fgsm": ("uniform", 2.0, 1.0, False),
    "liet": ("class", 1.0, 1.0, True),
    "pgd": ("uniform", 1.0, 2.5, True),  # the steps together
}
assert tuple(_NAMED) == TRAINING_ATTACKS
_STARTS = ("none", "uniform", "sign", "class")


@dataclasses.dataclass(frozen=True)
class StepAttack:
    """Settings of `craft`; sizes are in the units of the images.

    Images lie in `[clip_min, clip_max]`: with [0, 1], the default, sizes are shares of the range.

    Args:
        epsilon: Radius of the ball, > 0.
        step_size: Length of a step, > 0.
        steps: Number of steps.
        start: `"none"` (at x), `"uniform"` (uniform in the ball of `start_size`), `"sign"`
            (a random corner at distance `start_size`; for l2 a random direction) or `"class"` (a
            direction of the image's class mixed with noise, see `class_start`; l_inf alone).
        start_size: Radius of the start.
        project: Whether every step ends with a projection to the ball around x. Without it
            the ball is, implicitly, around the random start.
        clip_start: Whether the random start is clipped to `[clip_min, clip_max]`. Neither the
            paper's algorithm 1 nor Wong et al. do.
        norm: `"linf"` or `"l2"`.
        eot: Draws over which the gradient is averaged.
        clip_min: Smallest pixel of an adversarial image.
        clip_max: Largest pixel of an adversarial image.
    """

    epsilon: float
    step_size: float
    steps: int = 1
    start: str = "none"
    start_size: float = 0.0
    project: bool = True
    clip_start: bool = False
    norm: str = "linf"
    eot: EOT = dataclasses.field(default_factory=EOT)
    clip_min: float = 0.0
    clip_max: float = 1.0

    def __post_init__(self) -> None:
        use_plain_numbers(self)
        for name in ("epsilon", "step_size"):
            _require_positive(name, getattr(self, name))
        require_known("norm", self.norm, NORMS)
        require_known("start", self.start, _STARTS)
        if self.start == "class" and self.norm != "linf":
            raise UserError(
                "A start from a direction of each class (liet) is one of the norm linf. Received: "
                f"norm={self.norm!r}. Use another attack."
            )
        if self.steps < 1:
            raise UserError(f"An attack needs steps >= 1. Received: {self.steps!r}.")
        if not self.clip_min < self.clip_max:
            raise UserError(
                "An attack needs clip_min < clip_max. Received: "
                f"clip_min={self.clip_min!r}, clip_max={self.clip_max!r}."
            )


def step_attack(
    name: str,
    epsilon: float,
    *,
    step_size: float | None = None,
    steps: int | None = None,
    norm: str = "linf",
    eot: EOT | None = None,
    clip_start: bool | None = None,
    clip_min: float = 0.0,
    clip_max: float = 1.0,
) -> StepAttack:
    """Returns the settings that belong to an attack's name.

    ========  ==============================  ===========  ==========================
    name      start                           step         projected to the ball of x
    ========  ==============================  ===========  ==========================
    fgsm      x                               eps          by construction
    r+fgsm    x + eps/2 * sign(N(0, 1))       eps/2        by construction
    rfgsm     x + U(-eps, eps)                1.2 eps      yes
    nfgsm     x + U(-eps, eps)                eps          no: the ball is around the start
    n-fgsm    x + U(-2 eps, 2 eps)            eps          no
    liet      x + eps * class sign, or noise  eps          yes
    pgd-K     x + U(-eps, eps), clipped       2.5 eps / K  yes, at each of K steps
    ========  ==============================  ===========  ==========================

    Sources: Goodfellow et al. 2015; Tramèr et al. 2018; Wong et al. 2020 with the step of the
    paper; algorithm 1 of the paper; de Jorge et al. 2022; Madry et al. 2018. The start of `liet`
    is that of `class_start.mixed_start`.

    Args:
        name: A name of the table; `pgd` is `pgd-7`.
        epsilon: Radius of the ball, > 0, in the units of the images.
        step_size: Replaces the step of the table, in the units of the images.
        steps: Replaces the number of steps.
        norm: `"linf"` or `"l2"`.
        eot: Draws per gradient; one by default.
        clip_start: Replaces the table's choice whether the random start is clipped.
        clip_min: Smallest pixel.
        clip_max: Largest pixel.

    Raises:
        UserError: If the name or a number is not valid.
    """
    _require_positive("epsilon", epsilon)
    name, own_steps = name_and_steps(name)
    steps = steps or own_steps
    start, start_size, step, project = _NAMED[name]
    if name == "pgd":
        step /= steps
    return StepAttack(
        epsilon=epsilon,
        step_size=step * epsilon if step_size is None else step_size,
        steps=steps,
        start=start,
        start_size=start_size * epsilon,
        project=project,
        clip_start=name == "pgd" if clip_start is None else clip_start,
        norm=norm,
        eot=eot or EOT(),
        clip_min=clip_min,
        clip_max=clip_max,
    )


def _require_positive(name: str, value: Any) -> None:
    if not is_number(value) or value <= 0:
        raise UserError(f"An attack needs {name} > 0, a number. Received: {value!r}.")


def craft(
    predict: Predict,
    loss: Loss,
    x: Images,
    y: Labels,
    seed: Seed,
    attack: StepAttack,
    unroll: bool = False,
    signs: Images | None = None,
    alone: bool = True,
    scale: Scalar = 1.0,
) -> Images:
    """Returns adversarial images for `x`, shaped like it, within `[clip_min, clip_max]`.

    Args:
        predict: The classifier, see `pnil_tf.attacks`.
        loss: Loss per example that the attack makes large.
        x: float32 images `(batch, ...)` within `[clip_min, clip_max]`.
        y: Labels as `loss` takes them.
        seed: int32 seed pair of the start and of the draws.
        attack: The settings.
        unroll: As for `eot_gradient`, for the steps too.
        signs: As for `random_start`.
        alone: As for `eot_gradient`.
        scale: Factor of all the attack's lengths: radius, step and start.
    """
    norm = ORDERS[attack.norm]
    noise_seed = rng.fold(seed, 0)

    def step(i: Scalar, current: Images) -> Images:
        _, gradient = eot_gradient(
            predict, loss, current, y, rng.fold(noise_seed, i), attack.eot, unroll, alone
        )
        # An overflow in low precision says nothing about the direction.
        gradient = tf.where(tf.math.is_finite(gradient), gradient, tf.zeros_like(gradient))
        moved = current + ascent(gradient, scale * attack.step_size, attack.norm)
        if attack.project:
            moved = x + clip_eta(moved - x, norm, scale * attack.epsilon)
        return tf.clip_by_value(moved, attack.clip_min, attack.clip_max)

    current = x + scale * random_start(tf.shape(x), rng.fold(seed, 1), attack, signs)
    if attack.clip_start:
        current = tf.clip_by_value(current, attack.clip_min, attack.clip_max)
    if unroll or attack.steps == 1:
        for i in range(attack.steps):
            current = step(i, current)
    else:
        _, current = tf.while_loop(
            lambda i, _: i < attack.steps,
            lambda i, current: (i + 1, step(i, current)),
            (0, current),
            parallel_iterations=1,
        )
    return tf.stop_gradient(current)


def ascent(gradient: Images, length: Scalar, norm: str) -> Images:
    """Returns the step of a given length that raises a loss of this gradient the most.

    Args:
        gradient: float32 `(batch, ...)`; zeros give no step.
        length: The step's length in `norm`, one for all images.
        norm: `"linf"` or `"l2"`.
    """
    if norm == "l2":
        gradient = peak_scaled(gradient)
    return optimize_linear(gradient, length, ORDERS[norm])


def random_start(
    shape: Shape, seed: Seed, attack: StepAttack, signs: Images | None = None
) -> Tensor:
    """Returns the displacement (float32, `shape`) from which an attack starts.

    Args:
        shape: Of the images.
        seed: int32 seed pair.
        attack: The settings.
        signs: The direction of each image's class, for the start `"class"` alone.

    Raises:
        UserError: If the start needs them and there are none.
    """
    if attack.start == "class":
        if signs is None:
            raise UserError(
                "The attack liet starts from a direction for each class, which a training keeps. "
                "None is kept here. Use it in AdversarialModel."
            )
        return mixed_start(signs, seed, attack.start_size)
    if attack.start == "none":
        return tf.zeros(shape)
    if attack.start == "uniform":
        return uniform_in_ball(shape, seed, attack.start_size, attack.norm)
    if attack.norm == "linf":
        return attack.start_size * tf.sign(rng.normal(shape, seed))
    return on_sphere(shape, seed, attack.start_size)
