"""Jobs on a Ray cluster, whose nodes share the file system that holds the jobs' folders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pnil_tf.errors import UserError, argument
from pnil_tf.jobs.job import Job
from pnil_tf.jobs.process import start, stop
from pnil_tf.jobs.watch import AJob, Watch

# A job goes on where it was, so that starting it again on another node costs little.
_LOST_NODES = 5
_SECONDS_BETWEEN_LOOKS = 1.0


def require_ray() -> Any:
    """Returns the module `ray`.

    Raises:
        UserError: If it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "The engine 'ray' needs the package ray, which is not installed. Received: "
            f"{argument('engine', 'ray')}. Install pnil_tf[ray], or use "
            f"{argument('engine', 'local')}."
        ) from error
    return ray


def run_on_ray(
    jobs: Sequence[AJob],
    workers: int,
    watch: Watch[AJob],
    gpus: float = 0.0,
) -> None:
    """Runs jobs in order as Ray tasks; a failed one does not stop the others.

    The cluster is that of `RAY_ADDRESS`, or else one on this machine, whose jobs share its CPUs
    out evenly. A job whose node is lost goes on at another one.

    Args:
        jobs: Jobs whose folders are prepared, at the same path on every node.
        workers: Jobs at once.
        watch: What is told and asked meanwhile.
        gpus: GPUs of each job.
    """
    ray = require_ray()
    ours = not ray.is_initialized()
    if ours:
        ray.init(log_to_driver=False)
    cpus = cpus_of_each(ray.nodes(), workers)
    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=_LOST_NODES)(_do)
    waiting = list(jobs)
    running: dict[Any, AJob] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop(0)
                # A node's current folder is another one.
                running[task.remote(type(job)(job.path.resolve()), cpus)] = job
                watch.started(job)
            done, _ = ray.wait(list(running), num_returns=1, timeout=_SECONDS_BETWEEN_LOOKS)
            for reference in done:
                job = running.pop(reference)
                _note(ray, reference, job)
                watch.ended(job)
                if watch.again(job):
                    waiting.append(job)
            watch.meanwhile()
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
        if ours:
            ray.shutdown()


def cpus_of_each(nodes: list[dict[str, Any]], workers: int) -> int:
    """CPUs of each of so many jobs: an even share of the cluster's that fits on every node."""
    counts = [int(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]]
    counts = [count for count in counts if count] or [1]
    return max(1, min(sum(counts) // workers, *counts))


def _do(job: Job, threads: int) -> None:
    """Runs on a node: does one job in a process of its own, which ends with this one."""
    process = start(job, threads)
    try:
        job.note_end(process.wait())
    finally:
        stop([process])


def _note(ray: Any, reference: Any, job: Job) -> None:
    try:
        ray.get(reference)
    except ray.exceptions.RayError as error:
        job.note_failure(f"Ray: {str(error).splitlines()[0]}")
