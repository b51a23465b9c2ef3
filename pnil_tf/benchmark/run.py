"""Runs the benchmarks that were asked for: what `bin/benchmark.py` calls."""

from __future__ import annotations

import dataclasses
import datetime
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from pnil_tf.attacks.eot import Predict
from pnil_tf.benchmark.antithetic import antithetic_benchmark
from pnil_tf.benchmark.certify import certify_benchmark
from pnil_tf.benchmark.eot import eot_benchmark
from pnil_tf.benchmark.epoch import epoch_benchmark
from pnil_tf.benchmark.evaluate import pgd_benchmark, spsa_benchmark
from pnil_tf.benchmark.memory import memory_benchmark
from pnil_tf.benchmark.peers.packages import import_peers
from pnil_tf.benchmark.precision import precision_benchmark
from pnil_tf.benchmark.real_size import real_size_benchmark
from pnil_tf.benchmark.settings import ATTACKS, BenchmarkSettings
from pnil_tf.benchmark.startup import startup_benchmark
from pnil_tf.benchmark.sweep import pgd_strong_sweep
from pnil_tf.benchmark.table import markdown
from pnil_tf.benchmark.train import train_benchmark
from pnil_tf.errors import UserError, argument
from pnil_tf.evaluation.target import Target, as_target
from pnil_tf.files import write_json
from pnil_tf.runs.evaluate import Saved, settle

Rows = list[dict[str, Any]]


def run_benchmarks(settings: BenchmarkSettings) -> dict[str, Any]:
    """Measures, prints a table, and writes the JSON file if one is named.

    Returns:
        `machine`, `date`, and the rows of each benchmark by its name.
    """
    if settings.output is not None and not Path(settings.output).parent.is_dir():
        raise UserError(
            f"{argument('output')} needs an existing folder. Received: {settings.output!r}."
        )
    peers = import_peers() if settings.peers else {}
    results: dict[str, Any] = {
        "settings": dataclasses.asdict(settings),
        "date": datetime.date.today().isoformat(),
        "machine": {
            "cpus": os.cpu_count(),
            "architecture": platform.machine(),
            "gpus": [gpu.name for gpu in tf.config.list_physical_devices("GPU")],
            "tensorflow": tf.__version__,
            **peers,
        },
    }
    for name, rows in _measured(settings, results):
        results[name] = rows
        print(markdown(rows), end="\n\n")
    if settings.output is not None:
        write_json(settings.output, results)
    return results


def _measured(settings: BenchmarkSettings, results: dict[str, Any]) -> Iterator[tuple[str, Rows]]:
    """Measures what is asked for, one after another; notes in `results` what was attacked."""
    # These start processes, which need a GPU's memory: before this one computes, and keeps it.
    if settings.startup:
        yield "startup", startup_benchmark(settings.rounds)
    if settings.memory:
        yield "memory", memory_benchmark(str(settings.benchmark_run))
    if settings.real_size:
        rows = real_size_benchmark(
            batch_size=settings.batch_size, steps=settings.steps, rounds=settings.rounds
        )
        yield "real_size", rows
    # Before the work: it refuses what cannot be attacked.
    with_peers = bool(settings.peers and settings.benchmark_run)
    attacks = with_peers or any(getattr(settings, name) for name in ATTACKS)
    attacked = _attacked(settings) if attacks else None
    of_steps = (
        ("train", settings.train, train_benchmark),
        ("precision", settings.precision, precision_benchmark),
        ("peers_step", settings.peers, _step_peers),
    )
    for name, wanted, benchmark in of_steps:
        if wanted:
            rows = benchmark(
                settings.benchmark_model,
                width=settings.benchmark_width,
                batch_size=settings.batch_size,
                steps=settings.steps,
                rounds=settings.rounds,
            )
            yield name, rows
    if settings.epoch:
        rows = epoch_benchmark(
            width=settings.benchmark_width, batch_size=settings.batch_size, rounds=settings.rounds
        )
        yield "epoch", rows
    if attacked is not None:
        saved, target, x, y = attacked
        results |= {"epsilon": saved.epsilon, "data": saved.dataset.describe()}
        yield from _attacks(settings, target.predict, x, y, saved.epsilon)
        if with_peers:
            # Imported here, as for the step: it needs the extra.
            from pnil_tf.benchmark.peers.attack import attack_peers

            rows = attack_peers(
                saved.loaded.model,
                target.predict,
                x,
                y,
                saved.epsilon,
                steps=settings.attack_steps,
                draws=settings.eot_samples,
                rounds=settings.rounds,
            )
            yield "peers_attack", rows


def _step_peers(model: str, **how: Any) -> Rows:
    from pnil_tf.benchmark.peers.step import step_peers

    return step_peers(model, **how)


def _attacked(settings: BenchmarkSettings) -> tuple[Saved, Target, np.ndarray, np.ndarray]:
    """The trained classifier that is to be attacked, and images with their labels."""
    saved = settle(str(settings.benchmark_run)).load()
    test = saved.dataset.test.take(settings.images)
    x, y = test.unit_images, test.labels
    loaded = saved.loaded
    target = as_target(loaded.model, x, pixel_range=loaded.pixel_range, outputs=loaded.outputs)
    if not target.stochastic:
        raise UserError(
            f"EOT is for stochastic classifiers. Received: {settings.benchmark_run}, whose answers "
            "show no noise at inference. Name a run that has learned its data with "
            f"{argument('pnil')}."
        )
    return saved, target, x, y


def _attacks(
    settings: BenchmarkSettings, predict: Predict, x: np.ndarray, y: np.ndarray, epsilon: float
) -> Iterator[tuple[str, Rows]]:
    """The benchmarks that attack a trained classifier."""
    rounds = settings.rounds
    if settings.evaluate:
        rows = pgd_benchmark(
            predict,
            x,
            y,
            epsilon,
            steps=settings.attack_steps,
            draws=settings.eot_samples,
            rounds=rounds,
        )
        yield "pgd", rows
        few = slice(max(1, settings.images // 10))
        rows = spsa_benchmark(
            predict,
            x[few],
            y[few],
            epsilon,
            steps=max(1, settings.attack_steps // 5),
            samples=settings.spsa_samples,
            rounds=rounds,
        )
        yield "spsa", rows
    if settings.eot:
        yield "eot", eot_benchmark(predict, x, y, epsilon, rounds=rounds)
    if settings.antithetic:
        rows = antithetic_benchmark(
            predict, x, y, epsilon, steps=settings.attack_steps, rounds=rounds
        )
        yield "antithetic", rows
    if settings.certify:
        yield "certify", certify_benchmark(predict, x, rounds=rounds)
    if settings.sweep:
        yield "sweep", pgd_strong_sweep(predict, x, y, epsilon, settings.eot_samples)
