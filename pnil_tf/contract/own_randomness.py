"""Random layers that are not Keras': whether they augment images or add noise nobody can tell."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import keras

from pnil_tf import rng
from pnil_tf.keras_internals import all_layers

_CHOOSES_IN_PYTHON = getattr(keras.layers, "AugMix", ())
"""AugMix takes its transforms from Python's random numbers, whenever a graph is made."""


def warn_of_own_randomness(model: keras.Model, free: bool = False) -> None:
    """Warns of a stranger's random layers, whose draws differ in crafting and in training.

    That is right for noise: an attacker does not know it. A perturbation made for a flipped image,
    however, does nothing to the unflipped one.

    Args:
        model: The classifier.
        free: Whether it has noise that follows no seed, wherever that comes from.
    """
    own = [layer for layer in drawing(model) if is_own(layer)]
    sources = [f"The layer {layer.name!r} ({type(layer).__name__})" for layer in own]
    if free:
        sources.append("Some layer without a SeedGenerator")
    for source in sources:
        warnings.warn(
            f"{source} draws other numbers when an adversarial image is made than when the "
            "classifier learns from it. That is right for noise. If it flips, moves or turns "
            "images, the attack is weaker than it seems: derive it from one of Keras' random "
            "image layers, such as RandomFlip, or augment in the data.",
            stacklevel=2,
        )


def drawing(model: keras.Model) -> Iterator[keras.Layer]:
    """The layers that hold the state of a seed themselves."""
    for layer in all_layers(model):
        inner = {id(v) for part in all_layers(layer, include_self=False) for v in part.variables}
        if any(rng.is_seed(v) and id(v) not in inner for v in layer.non_trainable_variables):
            yield layer


def is_own(layer: keras.Layer) -> bool:
    """Whether a layer's randomness is not, or not alone, that of a seed of Keras' random layers."""
    if isinstance(layer, _CHOOSES_IN_PYTHON):
        return True
    for kind in type(layer).__mro__:
        if kind.__module__.partition(".")[0] in ("keras", "pnil_tf"):
            return kind in (keras.layers.Layer, keras.Model, keras.Sequential)
    return True
