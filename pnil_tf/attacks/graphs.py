"""Functions of batches, each compiled once whatever the number of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from pnil_tf.attacks.search import State


class BatchFunction:
    """A function of images, compiled once for each shape that an image can have.

    As images leave a search every call has another number of them; TensorFlow would compile again
    for the first and the second number.

    Args:
        function: `(batch arrays, *others) -> tensors`: a tuple of tensors whose first axis is
            that of the images, then whatever the caller passes on.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._compiled: dict[Any, Any] = {}

    def __call__(self, arrays: State, *others: Any) -> Any:
        """Calls the function. Python numbers among `others` are constants in its graph."""
        arrays = tuple(np.asarray(array) for array in arrays)
        fixed = tuple(value for value in others if isinstance(value, int))
        key = tuple((array.shape[1:], array.dtype) for array in arrays), fixed
        if key not in self._compiled:
            specs = tuple(tf.TensorSpec([None, *a.shape[1:]], a.dtype) for a in arrays)
            self._compiled[key] = self._with_constants(specs, others)
        tensors = tuple(value for value in others if not isinstance(value, int))
        return self._compiled[key](tuple(tf.constant(array) for array in arrays), *tensors)

    def _with_constants(self, specs: tuple[Any, ...], others: tuple[Any, ...]) -> Any:
        others_specs = [
            tf.TensorSpec(value.shape, value.dtype)
            for value in others
            if not isinstance(value, int)
        ]

        def call(arrays: Any, *tensors: Any) -> Any:
            rest = iter(tensors)
            values = [value if isinstance(value, int) else next(rest) for value in others]
            return self._function(arrays, *values)

        return tf.function(call, [specs, *others_specs], autograph=False)
