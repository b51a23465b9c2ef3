"""The cost of a training step: one-step and multi-step attacks against plain `fit`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.attacks.one_step import random_start, step_attack
from pnil_tf.benchmark.floor import (
    FULL_GRADIENT,
    INPUT_GRADIENT,
    floored,
    forward_passes,
    forward_rate,
)
from pnil_tf.benchmark.one_batch import CLASSES, SHAPES, fitting, one_batch
from pnil_tf.benchmark.timing import alternate
from pnil_tf.layers import PNILLayer
from pnil_tf.models import build_model
from pnil_tf.training.model import AdversarialModel

_ATTACKS = ("fgsm", "rfgsm", "nfgsm", "pgd-7")
_EPSILON = 0.1
_NOISE = "the noise of nfgsm alone"


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
        to stock Keras' `fit` of the same network, `floor`, that ratio by operation count, and
        the floor in images a second. A last row tells what the noise of a step costs.
    """
    shape = SHAPES[model]
    x, _, dataset = one_batch(model, batch_size)

    def contender(attack: str | None, pnil: bool) -> Any:
        network: keras.Model = build_model(
            model, shape, CLASSES, width=width, pnil=PNILLayer() if pnil else None
        )
        if attack is not None:
            network = AdversarialModel(network, attack, _EPSILON, validation_attack="none")
        return fitting(network, dataset, steps)

    rows = []
    for pnil in (False, True):
        contenders = {"Keras fit": contender(None, pnil)}
        trainings = {name: contender(name, pnil) for name in ("none", *_ATTACKS)}
        contenders |= trainings | {_NOISE: _noise(x, pnil, steps)}
        contenders |= forward_passes(build_model(model, shape, CLASSES, width=width), shape)
        title = f"{model}{' with PNIL' if pnil else ''}"
        timings = alternate(contenders, batch_size * steps, rounds, title)
        rate = forward_rate(timings)
        for name in ("Keras fit", *trainings):
            row = {"model": model, "width": width, "pnil": pnil, "training": name}
            row |= timings[name].to_json() | {"floor": _operations(name) / FULL_GRADIENT}
            rows.append(floored(row, rate, _operations(name)))
        row = {"model": model, "width": width, "pnil": pnil, "training": _NOISE}
        rows.append(row | timings[_NOISE].to_json())
    return rows


def _operations(name: str) -> float:
    passes = {"Keras fit": 0, "none": 0, "pgd-7": 7}.get(name, 1)
    return passes * INPUT_GRADIENT + FULL_GRADIENT


def _noise(x: np.ndarray, pnil: bool, steps: int) -> Any:
    """All random numbers of NFGSM steps: the start, and with PNIL the noise of both passes."""
    attack = step_attack("nfgsm", _EPSILON)

    @tf.function
    def draw() -> Any:
        def step(i: Any, total: Any) -> tuple[Any, Any]:
            seed = rng.fold(rng.make_seed(0), i)
            total += random_start(x.shape, rng.fold(seed, 0), attack)
            for number in (1, 2) if pnil else ():
                total += rng.normal(x.shape, rng.fold(seed, number))
            return i + 1, total

        return tf.while_loop(lambda i, _: i < steps, step, (0, tf.zeros(x.shape)))[1]

    return lambda: draw().numpy()
