"""The cost of training on files as large as photographs, and how long a step waits for them."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pnil_tf.benchmark.photographs import write_photographs
from pnil_tf.benchmark.timing import alternate
from pnil_tf.data import DataSettings, ImageSet, load, training_stream
from pnil_tf.layers import PNILLayer
from pnil_tf.models import build_model
from pnil_tf.training.model import AdversarialModel

_SIDE = 224
_NETWORK = "keras_applications:MobileNetV2"
_TRAININGS = {"none": ("none", False), "rfgsm": ("rfgsm", False), "nfgsm": ("nfgsm", False)}
_TRAININGS["nfgsm with PNIL"] = ("nfgsm", True)
_FROM_FILES = "nfgsm with PNIL, from files"
_CLASSES = 10


def real_size_benchmark(*, batch_size: int, steps: int, rounds: int) -> list[dict[str, Any]]:
    """Times the steps of MobileNetV2 on images of 224 pixels, held in memory and read from files.

    Args:
        batch_size: Images per step.
        steps: Steps per round.
        rounds: Rounds that count.

    Returns:
        One row for each way to train, and one for reading files alone: images `per_second`, and
        `ratio` to stock Keras' `fit` of the same network. That which reads from files has
        `waiting`, the share of its time in which a step waits for its batch. Each round opens its
        files anew, so nothing was read while others ran: the wait for the first batch counts, and
        the share is an upper bound, the closer the more steps there are.
    """
    generator = np.random.default_rng(0)
    x = generator.uniform(0.0, 1.0, (batch_size, _SIDE, _SIDE, 3)).astype(np.float32)
    y = generator.integers(0, _CLASSES, batch_size).astype(np.int32)
    options = tf.data.Options()
    options.autotune.enabled = False  # its thread holds up the end of an iterator
    one_batch = tf.data.Dataset.from_tensors((x, y)).repeat().with_options(options)
    waited: list[float] = []

    def fitting(attack: str | None, pnil: bool) -> Any:
        model = _compiled(attack, pnil)
        return lambda: model.fit(one_batch, steps_per_epoch=steps, shuffle=False, verbose=0)

    with tempfile.TemporaryDirectory() as folder:
        stream = training_stream(_files(Path(folder), batch_size * steps), batch_size, 0)
        model = _compiled("nfgsm", True)

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

        contenders = {"Keras fit": fitting(None, False)}
        contenders |= {name: fitting(*how) for name, how in _TRAININGS.items()}
        contenders |= {_FROM_FILES: from_files, "files alone": reading}
        timings = alternate(contenders, batch_size * steps, rounds, "images of 224 pixels")
    rows: list[dict[str, Any]] = [
        {"training": name, **timing.to_json()} for name, timing in timings.items()
    ]
    for row in rows:
        if row["training"] == _FROM_FILES:
            row["waiting"] = float(np.median(waited[1:]))
    return rows


def _compiled(attack: str | None, pnil: bool) -> keras.Model:
    shape = (_SIDE, _SIDE, 3)
    model = build_model(_NETWORK, shape, _CLASSES, pnil=PNILLayer() if pnil else None)
    if attack is not None:
        model = AdversarialModel(model, attack, 8 / 255, validation_attack="none")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-4), loss)
    return model


def _files(folder: Path, count: int) -> Any:
    """At least so many training files, read when they are needed."""
    generator = np.random.default_rng(0)
    small = ImageSet(
        generator.integers(0, 256, (20 * _CLASSES, 32, 32, 3)).astype(np.uint8),
        generator.permutation(20 * _CLASSES).astype(np.int32) % _CLASSES,
    )
    names = [str(label) for label in range(_CLASSES)]
    # Every tenth is a test file, and there must be some of each class.
    write_photographs(folder, small, names, max(count * 10 // 9 + 1, 20 * _CLASSES), _SIDE)
    return load(DataSettings(f"folder:{folder}", data_in_memory="false")).train
