"""Jobs on this machine, some at once.

Imports no TensorFlow: a job's memory goes with its process.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from pnil_tf.jobs.job import Job
from pnil_tf.jobs.process import start, stop

_SECONDS_BETWEEN_LOOKS = 0.1

AJob = TypeVar("AJob", bound=Job)


def run_locally(
    jobs: Sequence[AJob],
    workers: int,
    started: Callable[[AJob], None] = lambda job: None,
    ended: Callable[[AJob], None] = lambda job: None,
    again: Callable[[AJob], bool] = lambda job: False,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Runs jobs in order; a failed one does not stop the others.

    Args:
        jobs: Jobs whose folders are prepared.
        workers: Jobs at once. They share the cores out evenly.
        started: Called when a job starts.
        ended: Called when a job has ended; its folder says how.
        again: Asked then whether the job is to be started once more.
        meanwhile: Called again and again while jobs run.
    """
    threads = max((os.cpu_count() or 1) // workers, 1) if workers > 1 else None
    waiting = list(jobs)
    running: dict[subprocess.Popen[bytes], AJob] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop(0)
                running[start(job, threads)] = job
                started(job)
            for process in [process for process in running if process.poll() is not None]:
                job = running.pop(process)
                job.note_end(process.returncode)
                ended(job)
                if again(job):
                    waiting.append(job)
            meanwhile()
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    finally:
        stop(list(running))
