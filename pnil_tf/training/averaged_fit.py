"""Judging a model by its averaged weights, while the optimizer goes on with the others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from pnil_tf.copying import copied
from pnil_tf.training.checked_fit import CheckedFit
from pnil_tf.training.types import Array, Figures
from pnil_tf.training.weight_average import WeightAverage


class AveragedFit(CheckedFit):
    """A Keras model around a classifier whose averaged weights, if there are any, are judged."""

    average: WeightAverage | None
    steps_taken: keras.Variable

    @contextlib.contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Within it `classifier` has the averaged weights, if there are any."""
        if self.average is None or not int(self.steps_taken.numpy()):
            yield
            return
        with self.distribute_strategy.scope(), self.average.in_place():
            yield

    def averaged_classifier(self) -> keras.Model:
        """A copy of the classifier with the averaged weights; itself where nothing is averaged."""
        if self.average is None:
            return self.classifier
        with self.averaged_weights():
            return copied(self.classifier)

    def evaluate(self, *args: Any, **kwargs: Any) -> Figures:
        """As `keras.Model.evaluate`, with the averaged weights if there are any."""
        with self.averaged_weights():
            return super().evaluate(*args, **kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Figures:
        """As `keras.Model.test_on_batch`, with the averaged weights if there are any."""
        with self.averaged_weights():
            return super().test_on_batch(*args, **kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> np.ndarray:
        """As `keras.Model.predict`, with the averaged weights if there are any."""
        with self.averaged_weights():
            return super().predict(*args, **kwargs)

    def predict_on_batch(self, x: Array) -> np.ndarray:
        """As `keras.Model.predict_on_batch`, with the averaged weights if there are any."""
        with self.averaged_weights():
            return super().predict_on_batch(x)
