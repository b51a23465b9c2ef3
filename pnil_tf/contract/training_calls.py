"""Where a plain call of a model and `predict` do not answer the same."""

from __future__ import annotations

from typing import Any

import keras

from pnil_tf.contract.held_noise import takes_training
from pnil_tf.copying import as_graph
from pnil_tf.keras_internals import all_layers, called_with

# They take `training`, True by itself, from their base class, and make no use of it.
_INDIFFERENT = (keras.layers.CenterCrop, keras.layers.Resizing)


def called_to_train(model: Any) -> tuple[str, ...] | None:
    """Which layers, as `'name' (Class)`, were called with `training=True` when a model was built.

    A plain `model(x)` keeps to that, and to what a layer takes for `training` by itself (Keras'
    random preprocessing: True). Whatever says `training=False`, as `predict`, an export and an
    evaluation do, takes it back: Keras hands its own `training` to every layer of the graph.

    Args:
        model: A model, with what is nested in it.

    Returns:
        Each once, in the order of their depth; `None` of what is no Keras layer. What a subclassed
        layer does in its `call` cannot be seen, and nothing takes that back. Nor does anything
        where the model itself takes no `training`.
    """
    if not isinstance(model, keras.Layer):
        return None
    if not takes_training(model.call):
        return ()
    graphs = filter(None, map(as_graph, all_layers(model)))
    calls = (call for graph in graphs for call in called_with(graph, "training"))
    return tuple(
        dict.fromkeys(
            f"{layer.name!r} ({type(layer).__name__})"
            for layer, training in calls
            if training and type(layer) not in _INDIFFERENT
        )
    )


def predicts_by_itself(model: Any) -> bool:
    """Whether what `predict` answers is made by a `predict_step` of the model's own class."""
    return isinstance(model, keras.Model) and (
        type(model).predict_step is not keras.Model.predict_step
    )
