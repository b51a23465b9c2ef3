"""A job's process: how it is started, stopped, and what its end means. Imports no TensorFlow."""

from __future__ import annotations

import os
import signal
import subprocess
import threading

from pnil_tf.interpreter import run_module
from pnil_tf.jobs.job import Job

_SECONDS_TO_SAVE = 60.0


def start(job: Job, threads: int | None = None) -> subprocess.Popen[bytes]:
    """Starts the process of a job whose folder is prepared.

    Args:
        job: The job; the process writes to its log.
        threads: Threads that TensorFlow may use; `None` for as many as it likes.
    """
    environment = {**os.environ, **job.speech, **job.environment}
    if threads is not None:
        environment |= {"TF_NUM_INTRAOP_THREADS": str(threads), "TF_NUM_INTEROP_THREADS": "1"}
    with open(job.log, "ab") as log:
        return subprocess.Popen(
            run_module(job.module, str(job.path)),
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


def how_it_ended(job: Job, status: int) -> str:
    """The sentence that says how a process ended that failed."""
    how = f"with status {status}" if status > 0 else f"by {signal.Signals(-status).name}"
    return f"The process was ended {how}; see {job.log.name}."


def end_with_parent() -> None:
    """Has this process, which `start` started, end when its standard input does.

    Whoever started it is gone then, however it ended, and a job that went on would meet the next
    one in its folder.
    """

    def wait() -> None:
        while os.read(0, 1):  # sys.stdin would keep a lock that Python wants when it ends
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
