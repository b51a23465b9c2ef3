"""From an attack's settings to an attack that runs."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.attacks.cleverhans import SearchMemory, pgd_steps
from pnil_tf.attacks.compaction import Array, Judge, Progress, Search, State, attack_standing
from pnil_tf.attacks.eot import Predict
from pnil_tf.attacks.losses import attack_loss
from pnil_tf.attacks.one_step import StepAttack, random_start
from pnil_tf.attacks.sanity import fgsm, uniform_noise
from pnil_tf.attacks.schedule import draw_phases
from pnil_tf.attacks.settings import AttackSettings
from pnil_tf.attacks.spsa import SPSAOptimizer, spsa_steps
from pnil_tf.attacks.strong import shrinking_steps
from pnil_tf.errors import UserError

Attack = Callable[[Any, Any, Any], Any]
"""`(x float32 (n, ...), y int (n,), int32 seed pair) -> adversarial images like x`."""


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
    builders = {"pgd": _pgd, "pgd_strong": _strong, "spsa": _spsa, "fgsm": _fgsm, "noise": _noise}
    return RunnableAttack(settings, judge, builders[settings.name](predict, bounded), screen)


def _pgd(predict: Predict, settings: AttackSettings) -> Search:
    memory = SearchMemory()
    phases = draw_phases(settings.eot, settings.schedule, settings.steps)

    def steps_with(name: str) -> Callable[..., Any]:
        loss = attack_loss(name, settings.targeted)

        @tf.function(reduce_retracing=True)
        def steps(
            x: Any, y: Any, current: Any, mean: Any, seed: Any, first: Any, count: Any
        ) -> Any:
            memory.resume(first, mean)
            moved = pgd_steps(
                predict,
                loss,
                x,
                current,
                y,
                seed,
                memory,
                count,
                epsilon=settings.epsilon,
                step_size=settings.step_size,
                momentum=settings.momentum,
                norm=settings.norm,
                phases=phases,
                clip_min=settings.clip_min,
                clip_max=settings.clip_max,
            )
            return moved, memory.mean_gradient(x)

        return steps

    return _gradient_search(settings, steps_with)


def _strong(predict: Predict, settings: AttackSettings) -> Search:
    phases = draw_phases(settings.eot, settings.schedule, settings.steps)

    def steps_with(name: str) -> Callable[..., Any]:
        loss = attack_loss(name, settings.targeted)

        @tf.function(reduce_retracing=True)
        def steps(
            x: Any, y: Any, current: Any, mean: Any, seed: Any, first: Any, count: Any
        ) -> Any:
            return shrinking_steps(
                predict,
                loss,
                x,
                current,
                mean,
                y,
                seed,
                first,
                count,
                steps=settings.steps,
                epsilon=settings.epsilon,
                step_size=settings.step_size,
                step_decay=settings.step_decay,
                momentum=settings.momentum,
                norm=settings.norm,
                phases=phases,
                clip_min=settings.clip_min,
                clip_max=settings.clip_max,
            )

        return steps

    return _gradient_search(settings, steps_with)


def _gradient_search(
    settings: AttackSettings, steps_with: Callable[[str], Callable[..., Any]]
) -> Search:
    by_trial = [steps_with(name) for name in settings.losses]

    def advance(
        trial: int, x: Any, y: Any, state: State, seed: Any, first: int, count: int
    ) -> State:
        steps = by_trial[trial % len(by_trial)]
        result: State = steps(*_tensors(x, y, *state), seed, tf.constant(first), tf.constant(count))
        return result

    batch = settings.max_evaluations_in_flight // settings.eot.chunk
    return _search(settings, advance, batch, memories=1)


def _spsa(predict: Predict, settings: AttackSettings) -> Search:
    optimizer = SPSAOptimizer(
        settings.step_size,
        settings.delta,
        settings.samples,
        settings.eot.draws,
        settings.max_evaluations_in_flight,
    )

    def steps_with(name: str) -> Callable[..., Any]:
        loss = attack_loss(name, settings.targeted)

        @tf.function(reduce_retracing=True)
        def steps(
            x: Any, y: Any, current: Any, mean: Any, square: Any, seed: Any, first: Any, count: int
        ) -> Any:
            optimizer.resume(first, (mean, square), seed)
            moved = spsa_steps(
                predict,
                loss,
                x,
                current,
                y,
                count,
                optimizer,
                epsilon=settings.epsilon,
                clip_min=settings.clip_min,
                clip_max=settings.clip_max,
            )
            return moved, *optimizer.moments(x)

        return steps

    by_trial = [steps_with(name) for name in settings.losses]

    def advance(
        trial: int, x: Any, y: Any, state: State, seed: Any, first: int, count: int
    ) -> State:
        steps = by_trial[trial % len(by_trial)]
        with _without_deprecation_warnings():
            result: State = steps(*_tensors(x, y, *state), seed, tf.constant(first), count)
        return result

    return _search(settings, advance, optimizer.images, memories=2)


def _fgsm(predict: Predict, settings: AttackSettings) -> Search:
    def steps_with(name: str) -> Callable[..., Any]:
        loss = attack_loss(name, settings.targeted)

        @tf.function(reduce_retracing=True)
        def step(x: Any, y: Any, current: Any, mean: Any, seed: Any, first: Any, count: Any) -> Any:
            del current, first, count
            moved = fgsm(
                predict,
                loss,
                x,
                y,
                seed,
                epsilon=settings.epsilon,
                norm=settings.norm,
                eot=settings.eot,
                clip_min=settings.clip_min,
                clip_max=settings.clip_max,
            )
            return moved, mean

        return step

    return _gradient_search(settings, steps_with)


def _noise(predict: Predict, settings: AttackSettings) -> Search:
    del predict

    def advance(
        trial: int, x: Any, y: Any, state: State, seed: Any, first: int, count: int
    ) -> State:
        del trial, y, state, first, count
        return (
            uniform_noise(
                x,
                seed,
                epsilon=settings.epsilon,
                norm=settings.norm,
                clip_min=settings.clip_min,
                clip_max=settings.clip_max,
            ),
        )

    return _search(settings, advance, settings.max_evaluations_in_flight)


def _search(
    settings: AttackSettings, advance: Callable[..., State], batch: int, memories: int = 0
) -> Search:
    at_random = StepAttack(
        settings.epsilon,
        settings.epsilon,
        start="uniform" if settings.random_start else "none",
        start_size=settings.epsilon,
        norm=settings.norm,
    )

    def start(x: Any, seed: Any) -> State:
        moved = x + random_start(tf.shape(x), seed, at_random)
        zeros = tf.zeros_like(x)
        return tf.clip_by_value(moved, settings.clip_min, settings.clip_max), *[zeros] * memories

    trials = settings.restarts * len(settings.losses)
    in_flight = settings.max_evaluations_in_flight
    return Search(trials, settings.steps, batch, in_flight, start, advance)


def _tensors(x: Any, y: Any, *state: Any) -> tuple[Any, ...]:
    return (tf.constant(x), tf.constant(y, tf.int32), *(tf.constant(array) for array in state))


@contextlib.contextmanager
def _without_deprecation_warnings() -> Iterator[None]:
    """Cleverhans names an argument of `tf.while_loop` that TensorFlow warns about."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


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
