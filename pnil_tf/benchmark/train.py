"""The cost of a training step: one-step and multi-step attacks against plain `fit`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pnil_tf.benchmark.timing import alternate
from pnil_tf.models import build_model, pnil_layer
from pnil_tf.training.model import AdversarialModel

_SHAPES = {"small_cnn": (28, 28, 1), "resnet11": (32, 32, 3)}
_ATTACKS = ("fgsm", "rfgsm", "nfgsm", "pgd-7")

# Operations in units of one forward pass: a gradient with respect to the input alone costs 2
# with its forward pass, a full gradient 3.
_INPUT_GRADIENT, _FULL_GRADIENT = 2.0, 3.0


def train_benchmark(
    model: str, *, width: int | None, batch_size: int, steps: int, rounds: int
) -> list[dict[str, Any]]:
    """Times the steps of `fit` on images in memory, with and without a `PNILLayer`.

    Args:
        model: Name of the classifier.
        width: Its width, or `None` for its default.
        batch_size: Images per step.
        steps: Steps per round.
        rounds: Rounds that count.

    Returns:
        One row for each way to train: `model`, `pnil`, `training`, images `per_second`, `ratio`
        to stock Keras' `fit` of the same network, and `floor`, that ratio by operation count.
    """
    generator = np.random.default_rng(0)
    x = generator.uniform(0.0, 1.0, (batch_size, *_SHAPES[model])).astype(np.float32)
    y = generator.integers(0, 10, batch_size).astype(np.int32)
    options = tf.data.Options()
    options.autotune.enabled = False  # its thread holds up the end of an iterator
    dataset = tf.data.Dataset.from_tensors((x, y)).repeat().with_options(options)

    def contender(attack: str | None, pnil: bool) -> Any:
        network: keras.Model = build_model(
            model, _SHAPES[model], 10, width=width, pnil=pnil_layer() if pnil else None
        )
        if attack is not None:
            network = AdversarialModel(network, attack, 0.1, validation_attack="none")
        network.compile(
            keras.optimizers.Adam(1e-4),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        return lambda: network.fit(dataset, steps_per_epoch=steps, shuffle=False, verbose=0)

    rows = []
    for pnil in (False, True):
        contenders = {"Keras fit": contender(None, pnil)}
        contenders |= {name: contender(name, pnil) for name in ("none", *_ATTACKS)}
        title = f"{model}{' with PNIL' if pnil else ''}"
        for name, timing in alternate(contenders, batch_size * steps, rounds, title).items():
            row = {"model": model, "width": width, "pnil": pnil, "training": name}
            rows.append({**row, **timing.to_json(), "floor": _floor(name)})
    return rows


def _floor(name: str) -> float:
    passes = {"Keras fit": 0, "none": 0, "pgd-7": 7}.get(name, 1)
    return (passes * _INPUT_GRADIENT + _FULL_GRADIENT) / _FULL_GRADIENT
