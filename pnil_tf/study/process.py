"""A job's process: how it is started, stopped, and what its end means. Imports no TensorFlow."""

from __future__ import annotations

import os
import signal
import subprocess

from pnil_tf.interpreter import run_module
from pnil_tf.study.job_folder import JobFolder

_SECONDS_TO_SAVE = 60.0


def start(folder: JobFolder, threads: int | None = None) -> subprocess.Popen[bytes]:
    """Starts the job of a prepared folder.

    Args:
        folder: The folder; the process writes to its log.
        threads: Threads that TensorFlow may use; `None` for as many as it likes.
    """
    environment = dict(os.environ)
    if threads is not None:
        environment |= {"TF_NUM_INTRAOP_THREADS": str(threads), "TF_NUM_INTEROP_THREADS": "1"}
    with open(folder.log, "ab") as log:
        return subprocess.Popen(
            run_module("pnil_tf.study.job", str(folder.path)),
            stdin=subprocess.PIPE,  # the job ends when this end of it closes
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # a Ctrl-C reaches it through us alone, and once
        )


def stop(processes: list[subprocess.Popen[bytes]]) -> None:
    """Ends processes: each may save its last step, and is killed if that takes too long."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(_SECONDS_TO_SAVE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def note_end(folder: JobFolder, status: int) -> None:
    """Notes in `job.json` that a process ended without a word, as one that is killed does."""
    if status == 0 or folder.read()["status"] == "failed":
        return
    how = f"with status {status}" if status > 0 else f"by {signal.Signals(-status).name}"
    folder.update(status="failed", error=f"The process was ended {how}; see {folder.log.name}.")
