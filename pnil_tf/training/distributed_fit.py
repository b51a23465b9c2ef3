"""What `keras.Model.fit` lacks on TensorFlow to run on several replicas and machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from pnil_tf.tensors import Tensor
from pnil_tf.training.types import Batch, Logs

StepFunction: TypeAlias = Callable[[Iterator[Batch]], Logs]
"""A step of `fit` or `evaluate` as Keras calls it, with an iterator over batches."""


class DistributedFit(keras.Model):
    """A Keras model whose `fit` and `evaluate` also work under multi-worker strategies.

    Under `MultiWorkerMirroredStrategy` stock Keras builds the model from a distributed batch it
    cannot reduce, and reduces per-replica logs along an axis that does not exist. With one
    replica everything is left to Keras.
    """

    train_function: Any
    test_function: Any

    @property
    def _replicated(self) -> bool:
        return self.distribute_strategy.num_replicas_in_sync > 1

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Batch | None = None) -> None:
        if not self._replicated:
            super()._maybe_symbolic_build(iterator=iterator, data_batch=data_batch)
            return
        strategy = self.distribute_strategy
        if iterator is not None:
            for item in iterator:  # its tuple ends in the iterator, whatever Keras' version
                data_batch = next(item[-1])
                break

        def local(value: Tensor) -> Tensor:
            if isinstance(value, tf.distribute.DistributedValues):
                return strategy.experimental_local_results(value)[0]
            return value

        with strategy.scope():
            self._symbolic_build(data_batch=keras.tree.map_structure(local, data_batch))

    def make_train_function(self, force: bool = False) -> StepFunction:
        """Builds the function that runs `steps_per_execution` training steps."""
        if not self._replicated:
            return super().make_train_function(force)
        if self.train_function is None or force:
            self.train_function = self._steps(self.train_step)
        return self.train_function

    def make_test_function(self, force: bool = False) -> StepFunction:
        """Builds the function that runs `steps_per_execution` evaluation steps."""
        if not self._replicated:
            return super().make_test_function(force)
        if self.test_function is None or force:
            self.test_function = self._steps(self.test_step)
        return self.test_function

    def _steps(self, step: Callable[[Batch], Logs]) -> StepFunction:
        strategy = self.distribute_strategy

        @tf.autograph.experimental.do_not_convert
        def one(iterator: Iterator[Batch]) -> Logs:
            logs = strategy.run(step, args=(next(iterator),))
            return keras.tree.map_structure(
                lambda value: strategy.reduce("MEAN", value, axis=None), logs
            )

        @tf.autograph.experimental.do_not_convert
        def several(iterator: Iterator[Batch]) -> Logs:
            for _ in range(int(self.steps_per_execution) - 1):
                one(iterator)
            return one(iterator)

        if self.run_eagerly:
            return several
        return tf.function(several, reduce_retracing=True)
