"""The peak memory of an evaluation, over images and draws."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pnil_tf.errors import RunFailedError
from pnil_tf.interpreter import run_code
from pnil_tf.progress import Progress

_SCRIPT = Path(__file__).resolve().parents[2] / "bin" / "evaluate.py"
_SIZES = ((100, 10), (100, 100), (1000, 10), (1000, 100))
_STEPS = 2  # every step needs the same memory
# A new process counts the memory of the one that started it as its own. This one is small.
_LAUNCHER = """
import resource, subprocess, sys
unit = 1024 if sys.platform == "darwin" else 1  # of bytes, or of KiB
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
status = subprocess.run(sys.argv[1:], **quiet).returncode
print(status, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // unit)
"""


def memory_benchmark(run: str) -> list[dict[str, Any]]:
    """Evaluates a run by `pgd` in new processes, over numbers of images and draws.

    Args:
        run: The run's folder.

    Returns:
        One row for each: `images`, `draws` per gradient, and `peak_mib`, the largest resident
        memory of the process in MiB.

    Raises:
        RunFailedError: If an evaluation fails.
    """
    progress = Progress("memory", len(_SIZES), "evaluation")
    rows = []
    for images, draws in _SIZES:
        with tempfile.TemporaryDirectory() as folder:
            flags = {"model": run, "images": images, "eot_samples": draws, "steps": _STEPS}
            flags |= {"attacks": "pgd", "faithful": "true", "checks": "false"}
            flags["output"] = str(Path(folder) / "evaluation")
            command = [sys.executable, str(_SCRIPT), *(f"--{k}={v}" for k, v in flags.items())]
            peak = peak_mib("An evaluation", command)
        rows.append({"images": images, "draws": draws, "peak_mib": peak})
        progress.advance_to(len(rows))
    progress.close(f"{len(rows)} evaluations")
    return rows


def peak_mib(what: str, command: Sequence[str]) -> float:
    """Runs a command, and returns the largest resident memory of its process in MiB.

    Args:
        what: What it is, for the error.
        command: The program and its arguments.

    Raises:
        RunFailedError: If it fails.
    """
    done = subprocess.run(run_code(_LAUNCHER, *command), stdout=subprocess.PIPE, check=True)
    status, peak = map(int, done.stdout.split())
    if status:
        raise RunFailedError(
            f"{what} ended with status {status}. Run it to see why: {shlex.join(command)}"
        )
    return peak / 1024
