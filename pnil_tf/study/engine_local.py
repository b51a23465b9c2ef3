"""Jobs on this machine, some at once.

Imports no TensorFlow: a job's memory goes with its process.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence

from pnil_tf.study.job_folder import JobFolder
from pnil_tf.study.process import note_end, start, stop

_SECONDS_BETWEEN_LOOKS = 0.1


def run_locally(
    folders: Sequence[JobFolder],
    workers: int,
    started: Callable[[JobFolder], None],
    ended: Callable[[JobFolder], None],
) -> None:
    """Runs jobs in order; a failed one does not stop the others.

    Args:
        folders: Prepared folders.
        workers: Jobs at once. They share the cores out evenly.
        started: Called when a job starts.
        ended: Called when a job has ended; its folder says how.
    """
    threads = max((os.cpu_count() or 1) // workers, 1) if workers > 1 else None
    waiting = list(folders)
    running: dict[subprocess.Popen[bytes], JobFolder] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                folder = waiting.pop(0)
                running[start(folder, threads)] = folder
                started(folder)
            for process in [process for process in running if process.poll() is not None]:
                folder = running.pop(process)
                note_end(folder, process.returncode)
                ended(folder)
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    finally:
        stop(list(running))
