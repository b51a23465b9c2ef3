"""From an attack's name to its settings, and from settings to an attack that runs."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import numpy as np

from pnil_tf import rng
from pnil_tf.attacks.attack import Attack, Kind, Wishes, on_gpu
from pnil_tf.attacks.eot import Predict
from pnil_tf.attacks.search import Array, Judge, Progress, Search, attack_standing
from pnil_tf.attacks.settings import AttackSettings
from pnil_tf.errors import UserError
from pnil_tf.validation import is_number, require_known
from pnil_tf.vocabulary import ATTACKS

_OF_EOT = {"draws", "antithetic", "average"}
_OF_MODEL = "stochastic"


def attack_named(name: str) -> Attack:
    """Returns what an attack says of itself.

    Raises:
        UserError: If the name is unknown.
    """
    require_known("attack", name, ATTACKS)
    attack: Attack = importlib.import_module(f"pnil_tf.attacks.{name}").ATTACK
    return attack


def attacks_of_kind(*kinds: Kind) -> tuple[str, ...]:
    """Returns the names of the attacks that are of one of these kinds."""
    return tuple(name for name in ATTACKS if attack_named(name).kind in kinds)


def attack_settings(name: str, epsilon: float, **overrides: Any) -> AttackSettings:
    """Returns the settings that belong to an attack's name.

    ==========  =====  ===================  ========  ======================  ============
    name        steps  step                 restarts  loss                    random start
    ==========  =====  ===================  ========  ======================  ============
    pgd         50     2 eps / steps        1         cross-entropy           yes (not l2)
    pgd_strong  100    eps -> eps / 10      2         cross-entropy + margin  yes
    apgd_ce     100    2 eps, adapts        1         cross-entropy           yes
    apgd_dlr    100    2 eps, adapts        1         DLR                     yes
    apgd_t      100    2 eps, adapts        1         targeted DLR            yes
    fab_t       100    to the boundary      1         none                    no
    square      5,000  patches              1         margin                  yes
    spsa        100    0.01 (Adam)          1         margin                  yes
    fgsm        1      eps                  1         cross-entropy           no
    noise       1      none                 1         none                    is the attack
    ==========  =====  ===================  ========  ======================  ============

    `apgd_t` and `fab_t` go towards several classes one after another, each with all steps.
    `pgd` and `spsa` are the paper's: 100 draws for each gradient, 2,048 evaluations for each
    SPSA step. Unless `faithful`, draws come in antithetic pairs and lost images leave the work;
    of 40 draws or more `pgd` takes a quarter at each step, which is then 2.2 eps / steps long,
    and follows a running mean over the steps; `pgd_strong` takes few draws at
    first and the full number in the last tenth of the steps.

    Args:
        name: A name of the table.
        epsilon: Radius of the ball, > 0, in units of the pixels.
        **overrides: Fields of the attack's settings to set otherwise; also `draws`, `antithetic`
            and `average`, which change these fields of `eot` alone; and `stochastic`, whether the
            classifier has noise (by default where there are several draws).

    Raises:
        UserError: If a name or a value is not valid.
    """
    attack = attack_named(name)
    fields = {field.name for field in dataclasses.fields(attack.settings)} - {"name", "epsilon"}
    known = fields | _OF_EOT | {_OF_MODEL}
    unknown = sorted(set(overrides) - known)
    if unknown:
        raise UserError(
            f"The attack {name!r} has no such setting. Received: {', '.join(unknown)}. "
            f"Choose from {', '.join(sorted(known))}."
        )
    if not is_number(epsilon) or epsilon <= 0:
        raise UserError(f"The attack {name!r} needs epsilon > 0. Received: {epsilon!r}.")

    faithful = bool(overrides.get("faithful", False))
    of_eot = {key: overrides[key] for key in _OF_EOT if overrides.get(key) is not None}
    eot = dataclasses.replace(overrides.get("eot") or attack.eot(faithful), **of_eot)
    # A wrong number of steps is refused at the end; until then there must be one.
    steps = overrides.get("steps")
    steps = steps if isinstance(steps, int) and steps > 0 else None
    norm = overrides.get("norm", AttackSettings.norm)
    values: dict[str, Any] = {"max_evaluations_in_flight": 4096 if on_gpu() else 2048}
    stochastic = bool(overrides.get(_OF_MODEL, eot.draws > 1))
    values |= attack.defaults(Wishes(epsilon, steps, norm, eot.draws, faithful, stochastic))
    if faithful:
        values["check_every"] = 0
    values |= {key: value for key, value in overrides.items() if key in fields}
    return attack.settings(**{**values, "name": name, "epsilon": epsilon, "eot": eot})


@dataclasses.dataclass(frozen=True)
class RunnableAttack:
    """An attack on one classifier. Not for several threads at once.

    Args:
        settings: Its settings.
        judge: Decides which images leave the work and which restart's result is kept.
        search: The search it runs.
        screen: A judge of fewer draws that looks first, see `attack_standing`.
    """

    settings: AttackSettings
    judge: Judge
    search: Search
    screen: Judge | None = None

    def run(
        self, x: Array, y: Array, seed: int, progress: Progress | None = None
    ) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Returns adversarial images, float32, shaped like `x`, in the ball and the range.

        The result follows from the arguments alone.

        Args:
            x: float32 images `(n, ...)` within `[clip_min, clip_max]`.
            y: int labels `(n,)`: true classes; for a targeted attack the classes to reach.
            seed: Seed of all of the attack's random numbers, >= 0.
            progress: Called with `(work done, work in all)`.

        Raises:
            UserError: If `x` or `y` is not as said.
        """
        x, y = _checked(x, y, self.settings)
        return attack_standing(
            self.search,
            x,
            y,
            rng.make_seed(seed),
            self.judge,
            screen=self.screen,
            targeted=self.settings.targeted,
            check_every=self.settings.check_every,
            progress=progress,
        )


def build_attack(
    predict: Predict, settings: AttackSettings, judge: Judge, screen: Judge | None = None
) -> RunnableAttack:
    """Builds an attack on a classifier.

    Args:
        predict: The classifier: images `(batch, ...)` to logits `(batch, classes)`. If its
            noise does not follow `rng.noise_scope`, every call counts as a new draw.
        settings: What to do, see `attack_settings`.
        judge: `(x, y, int32 seed pair) -> fraction of fresh draws predicted as y`, shape
            `(n,)`. It must not share draws with the final judgement.
        screen: The same with fewer draws, to look for lost images during the search; what it
            takes for lost `judge` confirms. Without one, `judge` looks every time.
    """
    # Draws stacked on one image count as evaluations, too.
    chunk = min(settings.eot.chunk, settings.eot.draws, settings.max_evaluations_in_flight)
    bounded = dataclasses.replace(settings, eot=dataclasses.replace(settings.eot, chunk=chunk))
    search = attack_named(settings.name).build(predict, bounded)
    return RunnableAttack(settings, judge, search, screen)


def _checked(x: Array, y: Array, settings: AttackSettings) -> tuple[Array, Array]:
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim < 2 or not np.issubdtype(x.dtype, np.floating):
        raise UserError(
            "An attack needs images as floats of shape (n, ...). "
            f"Received: dtype {x.dtype}, shape {x.shape}."
        )
    if y.shape != x.shape[:1] or not np.issubdtype(y.dtype, np.integer):
        raise UserError(
            f"An attack needs one whole-number label for each of {len(x)} images. "
            f"Received: dtype {y.dtype}, shape {y.shape}."
        )
    x = x.astype(np.float32)
    if not np.isfinite(x).all():
        raise UserError("An attack needs finite pixels. Received: NaN or infinity.")
    if x.size and (x.min() < settings.clip_min or x.max() > settings.clip_max):
        raise UserError(
            f"An attack needs pixels within [{settings.clip_min}, {settings.clip_max}]. "
            f"Received: pixels from {x.min()} to {x.max()}. Rescale the images, or set clip_min "
            "and clip_max."
        )
    return x, y.astype(np.int32)
