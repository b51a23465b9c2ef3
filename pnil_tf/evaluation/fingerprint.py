"""What stands for a model that came from no file, so that nothing is said of another one."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.contract.checks import only_stock_layers
from pnil_tf.contract.classifier import fixed_batch, random_images
from pnil_tf.evaluation.target import Target
from pnil_tf.keras_internals import all_layers

_SOME = 8
"""Images that a model is asked about."""


def fingerprint(target: Target) -> str:
    """Stands for a model that came from no file.

    Keras' own layers say all of what they do by their settings, their order and their weights. Of
    other code, which none of these shows, stand the answers to some images, too.
    """
    model = target.classifier.model
    if not (target.repeatable or isinstance(model, keras.Layer)):
        return f"one of many callables with noise of their own: {uuid.uuid4().hex}"
    digest = hashlib.sha256()
    if isinstance(model, keras.Layer):
        digest.update(_config(model).encode())
        for weight in model.weights:
            digest.update(f"{weight.dtype}{tuple(weight.shape)}".encode())
            digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
        if only_stock_layers(model) or not target.repeatable:
            return digest.hexdigest()
    some = random_images(target.input_shape, fixed_batch(model) or _SOME)
    with rng.noise_scope(0):
        digest.update(target.predict(tf.constant(some)).numpy().tobytes())
    return digest.hexdigest()


def _config(model: keras.Layer) -> str:
    """What the layers do and how they are joined, as far as they can tell.

    In the place of their names stand numbers: names are numbered afresh in every process.
    """
    layers = list(all_layers(model))
    joined = [operation for layer in layers for operation in getattr(layer, "operations", ())]
    numbers = {one.name: f"#{i}" for i, one in reversed(list(enumerate([*layers, *joined])))}

    def unnamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: unnamed(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [unnamed(one) for one in value]
        return numbers.get(value, value) if isinstance(value, str) else value

    configs = []
    for layer in layers:
        try:
            config = layer.get_config()
        except Exception:  # it was made of what Keras cannot write down
            config = {}
        configs.append([type(layer).__qualname__, unnamed(config)])
    return json.dumps(configs, default=repr, sort_keys=True)
