"""The cost of training and attacks on images as large as photographs, and the wait for files."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pnil_tf.attacks.eot import EOT
from pnil_tf.attacks.registry import attack_settings, build_attack
from pnil_tf.benchmark.floor import (
    FULL_GRADIENT,
    INPUT_GRADIENT,
    floored,
    forward_passes,
    forward_rate,
)
from pnil_tf.benchmark.memory import peak_mib
from pnil_tf.benchmark.one_batch import CLASSES, SHAPES, compiled, fitting, one_batch
from pnil_tf.benchmark.photographs import write_photographs
from pnil_tf.benchmark.timing import alternate
from pnil_tf.data import DataSettings, ImageSet, load, training_stream
from pnil_tf.evaluation.judge import Judge
from pnil_tf.interpreter import run_code
from pnil_tf.layers import PNILLayer
from pnil_tf.models import build_model
from pnil_tf.training.model import AdversarialModel
from pnil_tf.vocabulary import REAL_SIZE_MODEL

_SHAPE = SHAPES[REAL_SIZE_MODEL]
_EPSILON = 8 / 255
_DRAWS = 4
_FIT = "Keras fit"
_TRAININGS: dict[str, tuple[str | None, bool]] = {
    _FIT: (None, False),
    "none": ("none", False),
    "rfgsm": ("rfgsm", False),
    "nfgsm": ("nfgsm", False),
    "rfgsm with PNIL": ("rfgsm", True),
    "nfgsm with PNIL": ("nfgsm", True),
}
"""By name: the attack, and whether there is a `PNILLayer`."""
_PGD = f"PGD with EOT, {_DRAWS} draws"
_FROM_FILES = "nfgsm with PNIL, from files"
_READING = "files alone"
_ONE = """
import sys
from pnil_tf.benchmark import real_size
real_size.once(sys.argv[1], int(sys.argv[2]))
"""


def real_size_benchmark(*, batch_size: int, steps: int, rounds: int) -> list[dict[str, Any]]:
    """Times steps of MobileNetV2 on images of 224 pixels, held in memory and read from files.

    Args:
        batch_size: Images per step.
        steps: Steps per round, of training and of PGD.
        rounds: Rounds that count.

    Returns:
        One row for each way to train, one for PGD and one for reading files alone: images
        `per_second`, each taken through one step; `ratio` to stock Keras' `fit` of the same
        network; the floor; and `peak_mib`, the largest resident memory of a process that does
        nothing else, TensorFlow included. That which reads from files has `waiting`, the share of
        its time in which a step waits for its batch. Each round opens its files anew, so nothing
        was read while others ran: the wait for the first batch counts, and the share is an upper
        bound, the closer the more steps there are.

    Raises:
        RunFailedError: If a process whose memory is measured fails.
    """
    names = (*_TRAININGS, _PGD)
    # Before this process computes: TensorFlow keeps what it has once had of a GPU's memory.
    peaks = {name: peak_mib(name, run_code(_ONE, name, str(batch_size))) for name in names}
    waited: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        stream = training_stream(_files(Path(folder), batch_size * steps), batch_size, 0)
        model = compiled(_network("nfgsm", True))

        def from_files() -> None:
            begun, waiting = time.perf_counter(), 0.0
            batches = iter(stream)
            for _ in range(steps):
                asked = time.perf_counter()
                batch = next(batches)
                waiting += time.perf_counter() - asked
                model.train_on_batch(*batch)
            waited.append(waiting / (time.perf_counter() - begun))

        def reading() -> None:
            batches = iter(stream)
            for _ in range(steps):
                next(batches)

        in_memory = {name: _way(name, batch_size, steps) for name in names}
        passes = forward_passes(
            build_model(REAL_SIZE_MODEL, _SHAPE, CLASSES),
            _SHAPE,
            images=batch_size,
            batches=sorted({batch_size, max(1, batch_size // 2)}),
        )
        timings = alternate(
            {**in_memory, _FROM_FILES: from_files, _READING: reading, **passes},
            batch_size * steps,
            rounds,
            f"images of {_SHAPE[0]} pixels",
        )
    rate = forward_rate(timings, batch_size)
    rows: list[dict[str, Any]] = []
    for name in (*names, _FROM_FILES, _READING):
        row: dict[str, Any] = {"step": name, **timings[name].to_json()}
        if name != _READING:
            row = floored(row, rate, _operations(name))
        if name in peaks:
            row["peak_mib"] = peaks[name]
        rows.append(row)
    rows[-2]["waiting"] = float(np.median(waited[1:]))
    return rows


def once(name: str, batch_size: int) -> None:
    """Takes two steps of one way alone: what its process needs at most is what the way needs."""
    _way(name, batch_size, 2)()


def _operations(name: str) -> float:
    """The forward passes that a step counts as."""
    if name == _PGD:
        return _DRAWS * INPUT_GRADIENT
    attack, _ = _TRAININGS.get(name, ("nfgsm", True))
    return FULL_GRADIENT + (INPUT_GRADIENT if attack not in (None, "none") else 0.0)


def _way(name: str, batch_size: int, steps: int) -> Callable[[], Any]:
    """So many steps on one batch in memory."""
    x, y, stream = one_batch(REAL_SIZE_MODEL, batch_size)
    if name == _PGD:
        return _pgd(x, y, steps)
    return fitting(_network(*_TRAININGS[name]), stream, steps)


def _pgd(x: np.ndarray, y: np.ndarray, steps: int) -> Callable[[], Any]:
    model = build_model(REAL_SIZE_MODEL, _SHAPE, CLASSES, pnil=PNILLayer())

    def predict(images: Any) -> Any:
        return model(images, training=False)

    settings = attack_settings(
        "pgd", _EPSILON, steps=steps, step_size=_EPSILON / 25, eot=EOT(_DRAWS), faithful=True
    )
    attack = build_attack(predict, settings, Judge(predict, 1))
    return lambda: attack.run(x, y, 0)


def _network(attack: str | None, pnil: bool) -> keras.Model:
    model = build_model(REAL_SIZE_MODEL, _SHAPE, CLASSES, pnil=PNILLayer() if pnil else None)
    if attack is not None:
        model = AdversarialModel(model, attack, _EPSILON, validation_attack="none")
    return model


def _files(folder: Path, count: int) -> Any:
    """At least so many training files, read when they are needed."""
    generator = np.random.default_rng(0)
    small = ImageSet(
        generator.integers(0, 256, (20 * CLASSES, 32, 32, 3)).astype(np.uint8),
        generator.permutation(20 * CLASSES).astype(np.int32) % CLASSES,
    )
    names = [str(label) for label in range(CLASSES)]
    # Every tenth is a test file, and there must be some of each class.
    write_photographs(folder, small, names, max(count * 10 // 9 + 1, 20 * CLASSES), _SHAPE[0])
    return load(DataSettings(f"folder:{folder}", data_in_memory="false")).train
