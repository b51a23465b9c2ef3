"""Measures what classifiers cost, in a process of its own, as `pnil_tf.study.cost` starts it."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from typing import Any

from pnil_tf.jobs.process import end_with_parent
from pnil_tf.leaving import work_and_leave
from pnil_tf.standard_streams import guard
from pnil_tf.study.cost import Kind, Rates

_SHAPES = {"small_cnn": (28, 28, 1), "resnet11": (32, 32, 3)}
_BATCH, _EPSILON = 20, 0.1


def measure(kind: Kind) -> Rates:
    """Has a small batch trained on and attacked by what a grid uses.

    Args:
        kind: Name and width of a classifier.
    """
    started = time.perf_counter()  # the imports belong to what starting a job takes
    import keras
    import numpy as np

    from pnil_tf.attacks.registry import attack_settings, build_attack
    from pnil_tf.data import ImageSet, training_stream
    from pnil_tf.evaluation.judge import Judge
    from pnil_tf.evaluation.target import as_target
    from pnil_tf.layers import PNILLayer
    from pnil_tf.models import build_model
    from pnil_tf.training.model import AdversarialModel

    name, width = kind
    shape = _SHAPES[name]
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (200, *shape)).astype(np.uint8)
    labels = generator.integers(0, 10, 200).astype(np.int32)
    model = AdversarialModel(
        build_model(name, shape, 10, width=width, pnil=PNILLayer()),
        "nfgsm",
        _EPSILON,
        validation_attack="none",
    )
    model.compile(
        keras.optimizers.Adam(1e-4), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    stream = training_stream(ImageSet(images, labels), 100, 0)

    def fit() -> int:
        model.fit(stream, steps_per_epoch=10, shuffle=False, verbose=0)
        return 10 * 100

    x, y = images[:_BATCH].astype(np.float32) / 255.0, labels[:_BATCH]
    predict = as_target(model, x).predict

    def attack(attack_name: str, work: int, **settings: Any) -> Any:
        chosen = attack_settings(attack_name, _EPSILON, faithful=True, **settings)
        built = build_attack(predict, chosen, Judge(predict, 1))

        def run() -> int:
            built.run(x, y, 0)
            return _BATCH * work

        return run

    works = [
        fit,
        attack("pgd", 20 * 10, steps=20, draws=10),
        attack("spsa", 4 * 256, steps=4, samples=256),
    ]
    for work in works:
        work()
    overhead = time.perf_counter() - started
    trained, gradients, evaluations = (_rate(work) for work in works)
    return Rates(trained, gradients, evaluations, overhead)


def _rate(work: Any) -> float:
    started = time.perf_counter()
    units = work()
    return float(units / (time.perf_counter() - started))


def _say(kinds: list[list[Any]]) -> None:
    found = [measure((name, width)) for name, width in kinds]
    print(json.dumps([dataclasses.astuple(rates) for rates in found]))


if __name__ == "__main__":
    guard()
    end_with_parent()
    work_and_leave(lambda: _say(json.loads(sys.argv[1])))
