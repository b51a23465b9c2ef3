"""Checkpoints from which a training goes on as if nothing had happened."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import keras
import tensorflow as tf

from pnil_tf.errors import RunFailedError, UserError, argument, reason
from pnil_tf.files import remove_leftovers, sync
from pnil_tf.training.types import State

logger = logging.getLogger(__name__)

_KEPT = 2


class TrainingCheckpoints:
    """The last checkpoints of a training: weights, their average, optimizer, step, callbacks.

    Each is written under a temporary name, and its index is renamed last: a checkpoint cut short
    by a crash has none. TensorFlow's files carry checksums, so that one that was damaged later is
    recognised and passed over.

    Args:
        directory: Folder of the checkpoints.
        model: A compiled `AdversarialModel` whose classifier is built.
    """

    def __init__(self, directory: Path, model: keras.Model) -> None:
        with model.distribute_strategy.scope():
            model.optimizer.build(model.classifier.trainable_variables)
        # One variable holds the state as JSON: it is saved with the weights or not at all.
        self._state = tf.Variable("", dtype=tf.string, trainable=False)
        self._checkpoint = tf.train.Checkpoint(
            classifier=model.classifier,
            optimizer=model.optimizer,
            steps_taken=model.steps_taken,
            state=self._state,
            directions=[] if model.directions is None else [model.directions.signs],
            average=[] if model.average is None else list(model.average.averages),
        )
        self._directory = directory

    def save(self, state: State, step: int) -> None:
        """Saves everything under the number of steps taken.

        Raises:
            RunFailedError: If it cannot be written; the earlier ones stay.
        """
        self._state.assign(json.dumps(state))
        name = f"step-{step}"
        temporary = self._directory / f".{name}.tmp"
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._checkpoint.write(str(temporary))
            for file in sorted(self._directory.glob(f"{temporary.name}.*")):  # the index is last
                sync(file)
                file.replace(self._directory / (name + file.name.removeprefix(temporary.name)))
        except (tf.errors.OpError, OSError) as error:
            remove_leftovers(self._directory)
            before = [
                n
                for n in saved_steps(self._directory)
                if n < step and _damage(self._prefix(n)) is None
            ]
            kept = [f"that of step {n} is whole" for n in before[-1:]]
            raise RunFailedError(
                f"The checkpoint of step {step} cannot be written: {reason(error)}; "
                f"{kept[0] if kept else 'there is none before it'}. Mend that, and go on with "
                f"{argument('resume')}."
            ) from error
        # Those of later steps were damaged, or this one would not have been reached again.
        kept_steps = {step, *[n for n in saved_steps(self._directory) if n < step][1 - _KEPT :]}
        for old in set(saved_steps(self._directory)) - kept_steps:
            for file in sorted(self._directory.glob(f"step-{old}.*"), reverse=True):
                file.unlink()

    def restore(self) -> State | None:
        """Restores the newest checkpoint that is whole.

        Returns:
            The state it was saved with, or `None` where there is no checkpoint.

        Raises:
            UserError: If the checkpoint is one of another model.
        """
        steps = saved_steps(self._directory)
        for step in reversed(steps):
            prefix = self._prefix(step)
            damage = _damage(prefix)
            if damage is None:
                try:
                    self._checkpoint.read(prefix).assert_existing_objects_matched()
                except (AssertionError, ValueError) as error:
                    raise UserError(
                        f"The checkpoint step-{step} in {str(self._directory)!r} is of another "
                        "model than the run's description says: its weights do not fit. "
                        f"Begin the run again with {argument('overwrite')}."
                    ) from error
                return json.loads(self._state.numpy())
            logger.warning(
                "The checkpoint step-%d is damaged (%s); the one before it is used.", step, damage
            )
        if steps:
            logger.warning("There is none before it: the training starts from the beginning.")
        return None

    def _prefix(self, step: int) -> str:
        return str(self._directory / f"step-{step}")


def _damage(prefix: str) -> str | None:
    """Reads every value of a checkpoint, which compares the checksums."""
    try:
        reader = tf.train.load_checkpoint(prefix)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    # TensorFlow has no class of its own for it: IndexError is a file that was cut short.
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:
        return reason(error)
    return None


def saved_steps(directory: Path) -> list[int]:
    """The steps whose checkpoints are in a folder, in order; a damaged one counts."""
    found = [path for path in directory.glob("step-*.index") if path.is_file()]
    stems = [path.stem[5:] for path in found]
    return sorted(int(stem) for stem in stems if stem.isdigit())
