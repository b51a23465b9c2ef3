"""A model that remembers images: its figures would depend on what it was shown before."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from pnil_tf.contract.classifier import Classifier
from pnil_tf.contract.trace import Trace, writes
from pnil_tf.errors import UserError


def check_remembers_nothing(classifier: Classifier, trace: Trace | None, images: Any) -> None:
    """Refuses a model that keeps in variables of its own what its images were.

    Counters, seeds and generators change with every answer, whatever the images; they may. What is
    kept outside of TensorFlow's variables, as in a Python dictionary, is not seen.

    Args:
        classifier: The classifier.
        trace: Its graph, if it has one.
        images: Different images in [0, 1], float32 `(n, ...)`.

    Raises:
        UserError: If it does.
    """
    if trace is not None and not writes(trace.graph):
        return
    variables = [] if trace is None else list(trace.graph.variables)
    if isinstance(classifier.model, keras.Layer):
        variables += [variable.value for variable in classifier.model.variables]
    before = [variable.numpy() for variable in variables]
    after = []
    for shown in (images, 1.0 - images):
        classifier.predict(shown)
        after.append([variable.numpy() for variable in variables])
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
    keep = sorted(
        {
            variable.name.removesuffix(":0")
            for variable, one, other in zip(variables, *after, strict=True)
            if not _same(one, other)
        }
    )
    if keep:
        raise UserError(
            "The model keeps what it is shown in variables of its own, so its answers may depend "
            "on the images before, and a fresh copy would give others. Received: "
            f"{', '.join(keep)}. Let it change them with training=True alone."
        )


def _same(one: Any, other: Any) -> bool:
    one, other = np.asarray(one), np.asarray(other)
    if one.dtype == object:  # of strings
        return bool(np.array_equal(one, other))
    return one.shape == other.shape and one.tobytes() == other.tobytes()
