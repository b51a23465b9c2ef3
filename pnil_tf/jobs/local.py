"""Jobs on this machine, some at once.

Imports no TensorFlow: a job's memory goes with its process.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence

from pnil_tf.jobs.process import start, stop
from pnil_tf.jobs.watch import AJob, Watch

_SECONDS_BETWEEN_LOOKS = 0.1


def run_locally(
    jobs: Sequence[AJob],
    workers: int,
    watch: Watch[AJob],
) -> None:
    """Runs jobs in order; a failed one does not stop the others.

    Args:
        jobs: Jobs whose folders are prepared.
        workers: Jobs at once. They share the cores out evenly.
        watch: What is told and asked meanwhile.
    """
    threads = max((os.cpu_count() or 1) // workers, 1) if workers > 1 else None
    waiting = list(jobs)
    running: dict[subprocess.Popen[bytes], AJob] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop(0)
                running[start(job, threads)] = job
                watch.started(job)
            for process in [process for process in running if process.poll() is not None]:
                job = running.pop(process)
                job.note_end(process.returncode)
                watch.ended(job)
                if watch.again(job):
                    waiting.append(job)
            watch.meanwhile()
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    finally:
        stop(list(running))
