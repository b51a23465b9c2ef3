"""A guard against catastrophic overfitting."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import keras
import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.arrays import read_sealed, write_arrays
from pnil_tf.attacks.eot import EOT
from pnil_tf.attacks.one_step import StepAttack, step_attack
from pnil_tf.batching import batches_of
from pnil_tf.contract.batches import check_array
from pnil_tf.errors import UserError
from pnil_tf.tensors import Images, Labels, Scalar, Seed
from pnil_tf.training.types import EpochLogs, State

ACTIONS = ("warn", "stop", "rollback")
_FILE = "guard_best.npz"
_NAME = "arr_{}"

_Check: TypeAlias = Callable[[Images, Labels, Seed], tuple[Scalar, Scalar]]

Event: TypeAlias = dict[str, int | float | str]
"""What happened and when, ready for JSON."""


class OverfittingGuard(keras.callbacks.Callback):
    """Notices when one-step training stops making a classifier robust.

    In catastrophic overfitting (Wong et al. 2020, "Fast is better than free") a classifier
    learns within a few steps to defeat the one-step attack it is trained with, and falls to
    every attack of several steps; losses and one-step accuracy show nothing. The guard
    attacks one fixed batch at the end of every epoch, with PGD and with the training attack,
    always with the same random numbers. It calls a *collapse* when all of this holds:

    1. The best PGD accuracy so far was one that no constant prediction reaches: more than
       three standard errors above the share of the commonest label in the batch. Before that
       there is no robustness to lose.
    2. The PGD accuracy is below `pgd_share` times its best.
    3. The accuracy under the training attack is at least `one_step_share` times what it was at
       that best. Where both fall the training diverges, which is another illness.

    A collapse is reported once, and again after the PGD accuracy has recovered. Epoch logs get
    `guard_pgd_accuracy` and `guard_one_step_accuracy`; put the guard before callbacks that
    read them. With `action="rollback"` the classifier, its average and the optimizer's moments
    return to the best check, while the step count and with it the learning rate go on. Where
    weights are averaged, the guard watches those that the optimizer goes on with: their average
    follows them late.

    Args:
        x: Images `(n, ...)` in the training's pixel range; some hundred, for a sharp estimate.
        y: Their labels, integers or one-hot, as the compiled loss takes them.
        action: `"warn"`, `"stop"` (warns and ends the training) or `"rollback"` (warns and goes
            back to the best; after `max_rollbacks` times it ends the training instead).
        pgd: The attack of several steps; PGD-10 with four antithetic draws at the training
            attack's epsilon by default.
        one_step: The attack to compare with; the model's training attack by default.
        pgd_share: See above; between 0 and 1.
        one_step_share: See above; between 0 and 1.
        every_steps: Checks also after so many steps within an epoch; collapses can take less
            than one.
        max_rollbacks: How often to go back before giving up.
        directory: Where `"rollback"` keeps the best state, for a run that is resumed.
        writes: Whether this process writes to `directory`; of several workers the chief alone
            should, and all must be able to read it.
        batch_size: Most images attacked in one pass; `None` for all of them. Large ones take as
            much memory as in a training step.
        seed: Seed of the attacks' random numbers.

    Attributes:
        told: Called in every check after each batch with a line on how far it is, and with an empty
            one at the end; `None` for silence.
        collapsed: Whether the last check found a collapse; after a rollback still, until the next.
        events: What happened, JSON-able: dicts of `epoch` and `step` (optimizer steps) from 0,
            `what` (`"collapse"`, `"rollback"`, `"stop"`, `"recovery"`), `pgd_accuracy`,
            `one_step_accuracy`.

    Raises:
        UserError: If an argument is not valid, or the model is no `AdversarialModel` with an
            attack and none is given here, or the images are not in its pixel range.
    """

    def __init__(
        self,
        x: Images,
        y: Labels,
        action: str = "warn",
        *,
        pgd: StepAttack | None = None,
        one_step: StepAttack | None = None,
        pgd_share: float = 0.5,
        one_step_share: float = 0.75,
        every_steps: int | None = None,
        max_rollbacks: int = 3,
        directory: str | os.PathLike[str] | None = None,
        writes: bool = True,
        batch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if action not in ACTIONS:
            raise UserError(
                f"The guard's action is one of {', '.join(ACTIONS)}. Received: {action!r}."
            )
        for name, share in (("pgd_share", pgd_share), ("one_step_share", one_step_share)):
            if not 0.0 < share < 1.0:
                raise UserError(f"{name} is a share between 0 and 1. Received: {share!r}.")
        if every_steps is not None and every_steps < 1:
            raise UserError(f"every_steps is at least 1. Received: {every_steps!r}.")
        if max_rollbacks < 1:
            raise UserError(f"max_rollbacks is at least 1. Received: {max_rollbacks!r}.")
        if batch_size is not None and batch_size < 1:
            raise UserError(f"batch_size is at least 1. Received: {batch_size!r}.")
        self._x = tf.convert_to_tensor(x, tf.float32)
        self._y = tf.convert_to_tensor(y)
        if not len(self._x) or len(self._x) != len(self._y):
            raise UserError(
                "The guard needs images and as many labels. Received: "
                f"{len(self._x)} images, {len(self._y)} labels."
            )
        self.action = action
        self.pgd, self.one_step = pgd, one_step
        self.pgd_share, self.one_step_share = pgd_share, one_step_share
        self.every_steps = every_steps
        self.max_rollbacks = max_rollbacks
        self.batch_size = batch_size
        self.seed = seed
        self.told: Callable[[str], None] | None = None
        self.collapsed = False
        self.events: list[Event] = []
        self._writes = writes
        self._path = None if directory is None else Path(directory) / _FILE
        self._armed_at = _armed_at(self._y.numpy())
        self._best = _Best()
        self._best_values: list[np.ndarray] | None = None
        self._collapsed = False
        self._rollbacks = 0
        self._epoch = self._epoch_start = 0
        self._check: _Check | None = None
        self._pixels_checked = False
        self._checked: tuple[int, float, float] | None = None

    def set_model(self, model: keras.Model) -> None:
        """Called by Keras; settles the attacks and compiles the check."""
        if self._check is not None and model is self.model:
            return  # compiled before, by an earlier call of fit
        super().set_model(model)
        one_step = self.one_step or getattr(model, "attack", None)
        if one_step is None or not hasattr(model, "attack_outcome"):
            raise UserError(
                "The guard watches an AdversarialModel that trains with an attack. Received: "
                f"{type(model).__name__} with attack={one_step!r}. Leave the guard out, or pass "
                "one_step."
            )
        pgd = self.pgd or step_attack(
            "pgd-10",
            one_step.epsilon,
            norm=one_step.norm,
            eot=EOT(4, antithetic=True),
        )

        @tf.function(autograph=False)
        def check(x: Images, y: Labels, seed: Seed) -> tuple[Scalar, Scalar]:
            hits = [model.attack_outcome(x, y, attack, seed)[1] for attack in (pgd, one_step)]
            return tf.reduce_sum(hits[0]), tf.reduce_sum(hits[1])

        self._check = check
        if model.classifier.built:
            self._check_pixels()

    def on_epoch_begin(self, epoch: int, logs: EpochLogs = None) -> None:
        """Notes where the epoch starts."""
        self._epoch, self._epoch_start = epoch, int(self.model.steps_taken.numpy())

    def on_train_batch_end(self, batch: int, logs: EpochLogs = None) -> None:
        """Checks if `every_steps` says so."""
        if self.every_steps is None:
            return
        step = self._epoch_start + batch + 1
        last = self._checked[0] if self._checked else self._epoch_start
        if step // self.every_steps > last // self.every_steps:
            self._watch(step)

    def on_epoch_end(self, epoch: int, logs: EpochLogs = None) -> None:
        """Checks, and adds the accuracies to the epoch's logs."""
        step = int(self.model.steps_taken.numpy())
        if self._checked is None or self._checked[0] != step:
            self._watch(step)
        if logs is not None and self._checked is not None:
            _, logs["guard_pgd_accuracy"], logs["guard_one_step_accuracy"] = self._checked

    def get_state(self) -> State:
        """Returns what a resumed training must know (JSON-able; the weights stay on disk)."""
        return {
            "best": dataclasses.asdict(self._best),
            "collapsed": self._collapsed,
            "rollbacks": self._rollbacks,
            "events": [dict(event) for event in self.events],
        }

    def set_state(self, state: State) -> None:
        """Takes up the work where `get_state` was called.

        `"rollback"` reads its best state from `directory`. If it is not there or damaged, the
        guard warns and looks for a new best from here on.
        """
        self._best = _Best(**state["best"])
        self._collapsed = state["collapsed"]
        self._rollbacks = state["rollbacks"]
        self.events = [dict(event) for event in state["events"]]
        self._best_values = None
        if self.action != "rollback" or not self._best.known:
            return
        try:
            if self._path is None:
                raise FileNotFoundError("no directory was given")
            stored = read_sealed(self._path)
            self._best_values = [stored[_NAME.format(i)] for i in range(len(stored))]
        except (OSError, ValueError) as error:
            warnings.warn(
                f"The guard's best weights cannot be read ({error}); it starts without them.",
                stacklevel=2,
            )
            self._best, self._collapsed = _Best(), False

    def _check_pixels(self) -> None:
        try:
            check_array(self.model.pixel_range, self._x.numpy())
        except UserError as error:
            raise UserError(f"The images of the guard: {error}") from None
        self._pixels_checked = True

    def _watch(self, step: int) -> None:
        if not self._pixels_checked:  # the classifier was not built before
            self._check_pixels()
        pgd, one_step = self._accuracies()
        self._checked = (step, pgd, one_step)
        lost = self._best.known and pgd < self.pgd_share * self._best.pgd_accuracy
        found = lost and one_step >= self.one_step_share * self._best.one_step_accuracy
        if found:
            if not self._collapsed:
                self._collapsed = True
                self._report(step, pgd, one_step)
        elif self._collapsed and not lost:
            self._collapsed = False
            self._note("recovery", step, pgd, one_step)
        self.collapsed = found or self._collapsed
        if pgd > max(self._best.pgd_accuracy, self._armed_at):
            self._best = _Best(pgd, one_step, step)
            self._keep()

    def _accuracies(self) -> tuple[float, float]:
        """The accuracy under PGD and under the training attack."""
        assert self._check is not None  # Keras sets the model first
        count = len(self._x)
        hits = np.zeros(2)
        for number, rows in enumerate(batches_of(count, self.batch_size or count)):
            seed = rng.fold(rng.make_seed(self.seed), number)
            hits += [float(total) for total in self._check(self._x[rows], self._y[rows], seed)]
            if self.told is not None:
                done = min(rows.stop, count)
                self.told(f"guard: {done} of {count} images" if done < count else "")
        pgd, one_step = hits / count
        return float(pgd), float(one_step)

    def _report(self, step: int, pgd: float, one_step: float) -> None:
        self._note("collapse", step, pgd, one_step)
        warnings.warn(
            f"Catastrophic overfitting at step {step}: the PGD accuracy fell from "
            f"{self._best.pgd_accuracy:.1%} (step {self._best.step}) to {pgd:.1%}, while the "
            f"accuracy under the training attack is {one_step:.1%}. Use PNILLayer, a smaller step "
            "size or learning rate, or another attack.",
            RuntimeWarning,
            stacklevel=2,
        )
        if self.action == "rollback" and self._rollbacks < self.max_rollbacks:
            self._rollbacks += 1
            self._restore()
            self._collapsed = False
            self._note("rollback", step, self._best.pgd_accuracy, self._best.one_step_accuracy)
        elif self.action != "warn":
            self.model.stop_training = True
            self._note("stop", step, pgd, one_step)

    def _note(self, what: str, step: int, pgd: float, one_step: float) -> None:
        self.events.append(
            {
                "epoch": self._epoch,
                "step": step,
                "what": what,
                "pgd_accuracy": pgd,
                "one_step_accuracy": one_step,
            }
        )

    def _variables(self) -> list[keras.Variable]:
        optimizer = self.model.optimizer
        # The inner optimizer's alone: a loss scale is no property of the weights.
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        moments = [v for v in optimizer.variables if v.path.split("/")[-1] not in _NOT_MOMENTS]
        average = getattr(self.model, "average", None)
        averages = [] if average is None else average.weights
        return [*self.model.classifier.variables, *averages, *moments]

    def _keep(self) -> None:
        if self.action != "rollback":
            return
        self._best_values = [variable.numpy() for variable in self._variables()]
        if self._path is not None and self._writes:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            arrays = {_NAME.format(i): value for i, value in enumerate(self._best_values)}
            write_arrays(self._path, arrays, sealed=True, compressed=False)

    def _restore(self) -> None:
        assert self._best_values is not None
        with self.model.distribute_strategy.scope():
            for variable, value in zip(self._variables(), self._best_values, strict=True):
                variable.assign(value)


_NOT_MOMENTS = ("iteration", "learning_rate")


@dataclasses.dataclass(frozen=True)
class _Best:
    pgd_accuracy: float = 0.0
    one_step_accuracy: float = 0.0
    step: int = -1

    @property
    def known(self) -> bool:
        return self.step >= 0


def _armed_at(labels: np.ndarray) -> float:
    """The accuracy that the best constant prediction exceeds by luck alone once in a thousand."""
    if labels.ndim == 2 and labels.shape[1] > 1:
        labels = labels.argmax(axis=1)
    _, counts = np.unique(labels, return_counts=True)
    chance = counts.max() / counts.sum()
    return float(chance + 3.0 * np.sqrt(chance * (1.0 - chance) / counts.sum()))
