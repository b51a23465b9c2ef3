"""The noise of Keras' own layers, held at one draw or switched off."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.contract.own_randomness import drawing, is_own
from pnil_tf.keras_internals import all_layers
from pnil_tf.stand_ins import answering
from pnil_tf.tensors import AnyModel, Images, Logits

Predict = Callable[[Images], Logits]


def one_draw(predict: Predict, seed: int, classes: int) -> Predict:
    """A model with noise whose every image meets one draw, the same for all and in every batch.

    A layer that holds a `SeedGenerator` draws for a whole batch at once, so that an image's noise
    follows its place. Here each image is a batch of its own, and each batch begins at the same
    seed: it costs several times what the batch would.

    Args:
        predict: The model; its noise follows the surrounding noise scope.
        seed: Of the draw.
        classes: Number of classes.
    """

    def alone(image: Images) -> Logits:
        with rng.noise_scope(seed, frozen=True):
            return tf.cast(predict(image[tf.newaxis]), tf.float32)[0]

    def held(x: Images) -> Logits:
        return tf.map_fn(alone, x, fn_output_signature=tf.TensorSpec([classes], tf.float32))

    return held


@contextlib.contextmanager
def silent_layers(model: AnyModel) -> Iterator[None]:
    """Within it, a Keras model's random layers are called as at inference: `training=False`.

    So those are quiet that the model calls with `training=True`, and those derived from Keras'
    random layers that call them so (Monte Carlo dropout). It changes nothing for a layer that draws
    whatever `training` says, nor for one of a user's own in which `training` may decide on more
    than noise: it keeps statistics, or has layers within it that do.

    Args:
        model: The model that is called inside. Not for several threads at once.
    """
    drawn = drawing(model) if _is_keras(model) else []
    layers = [layer for layer in drawn if _is_only_noise(layer)]
    kinds = {kind for layer in layers for kind in type(layer).__mro__ if _is_random_kind(kind)}
    with contextlib.ExitStack() as stack:
        for kind in kinds:
            call = vars(kind)["call"]
            stack.callback(setattr, kind, "call", call)
            setattr(kind, "call", _quiet_for(layers, call))  # noqa: B010
        for layer in layers:
            if takes_training(layer.call):
                quiet = functools.partial(_as_at_inference, layer.call)
                stack.enter_context(answering(layer, "call", quiet))
        yield


def drawing_still(model: AnyModel, call: Callable[[], Any]) -> list[str]:
    """Names the Keras layers that draw although `silent_layers` would have them quiet.

    Args:
        model: The model.
        call: Calls it.
    """
    if not _is_keras(model):
        return []
    found = []
    with silent_layers(model), rng.stateless_layers(model, rng.make_seed(0)) as scope:
        states = [
            (layer, state, scope.get_current_value(state))
            for layer in drawing(model)
            for state in layer.non_trainable_variables
            if rng.is_seed(state)
        ]
        call()
        for layer, state, before in states:
            name = f"{layer.name!r} ({type(layer).__name__})"
            if scope.get_current_value(state) is not before and name not in found:
                found.append(name)
    return found


def _is_keras(model: AnyModel) -> bool:
    return isinstance(model, keras.Layer)


def _is_only_noise(layer: keras.Layer) -> bool:
    if not is_own(layer):
        return True
    return all(
        rng.is_seed(variable)
        for part in all_layers(layer)
        for variable in part.non_trainable_variables
    )


def _is_random_kind(kind: type) -> bool:
    """Whether a class is one of Keras' with a `call` that is told whether it is training."""
    return (
        kind.__module__.partition(".")[0] == "keras"
        and kind not in (keras.layers.Layer, keras.Model, keras.Sequential)
        and "call" in vars(kind)
        and takes_training(vars(kind)["call"])
    )


def takes_training(call: Callable[..., Any]) -> bool:
    """Whether a layer's `call` is told whether it is training."""
    return "training" in inspect.signature(call).parameters


def _quiet_for(layers: list[keras.Layer], call: Callable[..., Any]) -> Callable[..., Any]:
    """The `call` of a class, as at inference for some of its layers."""

    @functools.wraps(call)
    def chosen(layer: keras.Layer, *args: Any, **options: Any) -> Any:
        if any(layer is one for one in layers):
            return _as_at_inference(call, layer, *args, **options)
        return call(layer, *args, **options)

    return chosen


def _as_at_inference(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    given = inspect.signature(call).bind(*args, **options)
    given.arguments["training"] = False
    return call(*given.args, **given.kwargs)
