"""Checkpoints from which a training goes on as if nothing had happened."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from pnil_tf.errors import UserError

logger = logging.getLogger(__name__)


class TrainingCheckpoints:
    """The last checkpoints of a training: classifier, optimizer, step, a JSON-able state.

    TensorFlow's `CheckpointManager` writes each under its own name and records it last, and the
    files carry checksums, so a checkpoint cut short by a crash is recognised and passed over.

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
        )
        self._directory = directory
        self._manager = self._managed()

    def _managed(self) -> tf.train.CheckpointManager:
        def manager() -> tf.train.CheckpointManager:
            return tf.train.CheckpointManager(
                self._checkpoint, str(self._directory), max_to_keep=2, checkpoint_name="step"
            )

        try:
            found = manager()
            # The manager deletes what its list names, once it is old: that must be ours.
            if all(Path(path).parent == self._directory for path in found.checkpoints):
                return found
        except ValueError:
            pass
        # Its list of checkpoints is damaged; `restore` does without.
        (self._directory / "checkpoint").unlink()
        return manager()

    def save(self, state: dict[str, Any], step: int) -> None:
        """Saves everything under the number of steps taken."""
        self._state.assign(json.dumps(state))
        self._manager.save(checkpoint_number=step)

    def restore(self) -> dict[str, Any] | None:
        """Restores the newest checkpoint that is whole.

        Returns:
            The state it was saved with, or `None` where there is no checkpoint.

        Raises:
            UserError: If the checkpoint is one of another model.
        """
        # The files themselves are looked for: the manager's own list may be the damaged one.
        found = [path for path in self._directory.glob("step-*.index") if path.stem[5:].isdigit()]
        damaged = False
        for path in sorted(found, key=lambda path: int(path.stem[5:]), reverse=True):
            prefix = str(path.with_suffix(""))
            damage = _damage(prefix)
            if damage is None:
                try:
                    self._checkpoint.restore(prefix).assert_existing_objects_matched()
                except (AssertionError, ValueError) as error:
                    raise UserError(
                        f"The checkpoint {path.stem} in {str(self._directory)!r} is of another "
                        "model than the run's description says. Received: weights that do not fit. "
                        "Begin the run anew with --overwrite."
                    ) from error
                return json.loads(self._state.numpy())
            logger.warning(
                "The checkpoint %s is damaged (%s); the one before it is used.", path.stem, damage
            )
            damaged = True
        if damaged:
            logger.warning("There is none before it: the training begins anew.")
        return None


def _damage(prefix: str) -> str | None:
    """Reads every value of a checkpoint, which compares the checksums."""
    try:
        reader = tf.train.load_checkpoint(prefix)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        return type(error).__name__
    return None
