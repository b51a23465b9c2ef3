"""A model that remembers what it was shown: a figure of it would be of what came before."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from pnil_tf.contract.classifier import Classifier
from pnil_tf.contract.trace import Trace, writes
from pnil_tf.errors import UserError

# Numbers in the state of a random generator, at the most.
_GENERATOR = 3


def check_remembers_nothing(classifier: Classifier, trace: Trace | None, unseen: Any) -> None:
    """Refuses a model that changes variables of its own when it answers.

    Seeds, generators and counters may change: noise follows them. What is kept outside of
    TensorFlow's variables, as in a Python dictionary, is not seen.

    Args:
        classifier: The classifier.
        trace: Its graph, if it has one.
        unseen: Images in [0, 1] that it has not been shown before, float32 `(n, ...)`.

    Raises:
        UserError: If it does.
    """
    if trace is not None and not writes(trace.graph):
        return
    variables = [] if trace is None else list(trace.graph.variables)
    if isinstance(classifier.model, keras.Layer):
        variables += [variable.value for variable in classifier.model.variables]
    large = {id(one): one for one in variables if one.numpy().size > _GENERATOR}
    before = {key: one.numpy() for key, one in large.items()}
    classifier.predict(unseen)
    changed = [
        one.name.removesuffix(":0")
        for key, one in large.items()
        if not np.array_equal(one.numpy(), before[key], equal_nan=True)
    ]
    if changed:
        raise UserError(
            "The model changes variables of its own when it answers, so its answers may follow "
            "from the images that it was shown before, and a fresh copy would give others. "
            f"Received: {', '.join(sorted(changed))}. Let it change them with training=True alone."
        )
