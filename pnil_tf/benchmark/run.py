"""Runs the benchmarks that were asked for: what `bin/benchmark.py` calls."""

from __future__ import annotations

import datetime
import os
import platform
from typing import Any

import tensorflow as tf

from pnil_tf.benchmark.settings import BenchmarkSettings
from pnil_tf.benchmark.table import markdown
from pnil_tf.benchmark.train import train_benchmark
from pnil_tf.files import write_json


def run_benchmarks(settings: BenchmarkSettings) -> dict[str, Any]:
    """Measures, prints a table, and writes the JSON file if one is named.

    Returns:
        `machine`, `date`, and the rows of each benchmark by its name.
    """
    results: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": {
            "cpus": os.cpu_count(),
            "architecture": platform.machine(),
            "gpus": [gpu.name for gpu in tf.config.list_physical_devices("GPU")],
            "tensorflow": tf.__version__,
        },
    }
    results["train"] = train_benchmark(
        settings.benchmark_model,
        width=settings.benchmark_width,
        batch_size=settings.batch_size,
        steps=settings.steps,
        rounds=settings.rounds,
    )
    print(markdown(results["train"]))
    if settings.output is not None:
        write_json(settings.output, results)
    return results
