"""What stands for a model that came from no file, so that nothing is said of another one."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import uuid
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.contract.checks import is_foreign, only_stock_layers
from pnil_tf.contract.classifier import fixed_batch, random_images
from pnil_tf.evaluation.target import Target
from pnil_tf.keras_internals import all_layers

_KINDS = 8
_STEPS = 32
# Where Keras writes the names of layers and of what joins them.
_NAMES = ("name", "keras_history", "input_layers", "output_layers")


def fingerprint(target: Target) -> str:
    """Stands for a model that came from no file.

    Keras' own layers and operations say all of what they do by their settings, how they are joined
    and their weights. For other code in a Keras model stand its text, as far as Python has it, and
    the answers to some images, roughly: another number of threads adds up in another order. Of a
    callable there is nothing but its answers.
    """
    model = target.classifier.model
    digest = hashlib.sha256()
    if not isinstance(model, keras.Layer):
        if target.stochastic:
            return f"one of many callables with noise of their own: {uuid.uuid4().hex}"
        digest.update(_answers(target).tobytes())
        return digest.hexdigest()
    digest.update(_config(model).encode())
    for weight in model.weights:
        digest.update(f"{weight.dtype}{tuple(weight.shape)}".encode())
        if weight.trainable or weight.shape:  # the number of a call says nothing of a model
            digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    if target.repeatable and not only_stock_layers(model):
        answers = _answers(target)
        size = np.abs(answers[np.isfinite(answers)]).max(initial=1e-30)
        rough = [_STEPS * np.nan_to_num(answers / size), _STEPS * np.log2(size)]
        digest.update(repr([np.round(part).astype(int).tolist() for part in rough]).encode())
    return digest.hexdigest()


def _answers(target: Target) -> np.ndarray:
    with rng.noise_scope(0):
        answers: np.ndarray = target.predict(tf.constant(_images(target))).numpy()
    return answers


def _images(target: Target) -> np.ndarray:
    """Images of several kinds: of noise alone a model may think nothing."""
    count = fixed_batch(target.classifier.model) or _KINDS
    noise = random_images(target.input_shape, count)
    rows = np.linspace(0, 1, noise.shape[1], dtype=np.float32)[:, None, None]
    columns = np.linspace(0, 1, noise.shape[2], dtype=np.float32)[None, :, None]
    smooth = [rows, columns, rows * columns, (rows + columns) / 2, 0.1 * noise[-1], 0 * rows]
    for image, kind in zip(noise, smooth, strict=False):
        image[...] = kind
    return noise


def _config(model: keras.Layer) -> str:
    """What the layers do and how they are joined, as far as they can tell.

    In the place of their names stand numbers: names are numbered afresh in every process.
    """
    layers = list(all_layers(model))
    joined = [operation for layer in layers for operation in getattr(layer, "operations", ())]
    numbers = {one.name: i for i, one in reversed(list(enumerate([*layers, *joined])))}

    def unnamed(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            # The shapes that a model was first called with hold the size of that batch.
            left_out = {"build_config", "build_input_shape", "batch_shape"}
            left_out |= {"shape"} if "keras_history" in value else set()
            return {name: unnamed(value[name], name) for name in value if name not in left_out}
        if isinstance(value, list | tuple):
            return [unnamed(one, key) for one in value]
        is_name = key in _NAMES and isinstance(value, str)
        return numbers.get(value, value) if is_name else value

    configs = []
    for layer in layers:
        try:
            config = layer.get_config()
        except Exception:  # it was made of what Keras cannot write down
            config = {}
        configs.append([type(layer).__qualname__, _text(layer), unnamed(config)])
    return json.dumps(configs, default=_kind, sort_keys=True)


def _text(layer: keras.Layer) -> list[str]:
    kinds = filter(is_foreign, type(layer).__mro__)
    methods = (method for kind in kinds for method in vars(kind).values())
    texts = []
    for method in filter(inspect.isfunction, methods):
        with contextlib.suppress(OSError):  # it was typed at a prompt
            texts.append(inspect.getsource(method))
    return texts


def _kind(thing: Any) -> str:
    """What is no number or text, without the address that it has in this process."""
    return getattr(thing, "__qualname__", type(thing).__qualname__)
