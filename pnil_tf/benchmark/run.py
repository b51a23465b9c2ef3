"""Runs the benchmarks that were asked for: what `bin/benchmark.py` calls."""

from __future__ import annotations

import dataclasses
import datetime
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from pnil_tf.benchmark.evaluate import pgd_benchmark, spsa_benchmark
from pnil_tf.benchmark.settings import BenchmarkSettings
from pnil_tf.benchmark.sweep import pgd_strong_sweep
from pnil_tf.benchmark.table import markdown
from pnil_tf.benchmark.train import train_benchmark
from pnil_tf.errors import UserError
from pnil_tf.evaluation.command import Saved, load_saved
from pnil_tf.evaluation.target import Target, as_target
from pnil_tf.files import write_json


def run_benchmarks(settings: BenchmarkSettings) -> dict[str, Any]:
    """Measures, prints a table, and writes the JSON file if one is named.

    Returns:
        `machine`, `date`, and the rows of each benchmark by its name.
    """
    if settings.output is not None and not Path(settings.output).parent.is_dir():
        raise UserError(f"--output needs an existing folder. Received: {settings.output!r}.")
    results: dict[str, Any] = {
        "settings": dataclasses.asdict(settings),
        "date": datetime.date.today().isoformat(),
        "machine": {
            "cpus": os.cpu_count(),
            "architecture": platform.machine(),
            "gpus": [gpu.name for gpu in tf.config.list_physical_devices("GPU")],
            "tensorflow": tf.__version__,
        },
    }
    attacked = _attacked(settings) if settings.evaluate or settings.sweep else None
    if settings.train:
        results["train"] = train_benchmark(
            settings.benchmark_model,
            width=settings.benchmark_width,
            batch_size=settings.batch_size,
            steps=settings.steps,
            rounds=settings.rounds,
        )
        print(markdown(results["train"]))
    if attacked is not None:
        results |= _attacks(settings, *attacked)
    if settings.output is not None:
        write_json(settings.output, results)
    return results


def _attacked(settings: BenchmarkSettings) -> tuple[Saved, Target, np.ndarray, np.ndarray]:
    """The trained classifier that is to be attacked, and images with their labels."""
    saved = load_saved(str(settings.benchmark_run))
    test = saved.dataset.test.take(settings.images)
    x, y = test.images.astype(np.float32) / 255.0, test.labels
    target = as_target(saved.loaded.model, x)
    if not target.stochastic:
        raise UserError(
            f"EOT is for stochastic classifiers. Received: {settings.benchmark_run}, which has no "
            "noise at inference. Name a run that was trained with --pnil."
        )
    return saved, target, x, y


def _attacks(
    settings: BenchmarkSettings, saved: Saved, target: Target, x: np.ndarray, y: np.ndarray
) -> dict[str, Any]:
    """The benchmarks that need a trained classifier."""
    predict, epsilon = target.predict, saved.epsilon
    few = slice(max(1, settings.images // 10))
    results: dict[str, Any] = {
        "epsilon": epsilon,
        "data": saved.dataset.describe(),
    }
    if settings.evaluate:
        results["pgd"] = pgd_benchmark(
            predict,
            x,
            y,
            epsilon,
            steps=settings.attack_steps,
            draws=settings.eot_samples,
            rounds=settings.rounds,
        )
        print(markdown(results["pgd"]), end="\n\n")
        results["spsa"] = spsa_benchmark(
            predict,
            x[few],
            y[few],
            epsilon,
            steps=max(1, settings.attack_steps // 5),
            samples=settings.spsa_samples,
            rounds=settings.rounds,
        )
        print(markdown(results["spsa"]), end="\n\n")
    if settings.sweep:
        results["sweep"] = pgd_strong_sweep(predict, x, y, epsilon, settings.eot_samples)
        print(markdown(results["sweep"]))
    return results
