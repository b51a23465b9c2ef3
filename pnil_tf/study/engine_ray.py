"""Jobs on a Ray cluster, whose nodes share the file system that holds the study's folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pnil_tf.errors import UserError
from pnil_tf.study.job_folder import JobFolder
from pnil_tf.study.process import note_end, start, stop

# A job goes on where it was, so that starting it again on another node costs little.
_LOST_NODES = 5


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
            "--engine=ray. Install pnil_tf[ray], or use --engine=local."
        ) from error
    return ray


def run_on_ray(
    folders: Sequence[JobFolder],
    workers: int,
    started: Callable[[JobFolder], None],
    ended: Callable[[JobFolder], None],
    gpus: float = 0.0,
) -> None:
    """Runs jobs in order as Ray tasks; a failed one does not stop the others.

    The cluster is that of `RAY_ADDRESS`, or else one on this machine, whose jobs share its CPUs
    out evenly. A job whose node is lost goes on at another one.

    Args:
        folders: Prepared folders, at the same path on every node.
        workers: Jobs at once.
        started: Called when a job is handed to Ray.
        ended: Called when a job has ended; its folder says how.
        gpus: GPUs of each job.
    """
    ray = require_ray()
    ours = not ray.is_initialized()
    if ours:
        ray.init(log_to_driver=False)
    cpus = cpus_of_each(ray.nodes(), workers)
    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=_LOST_NODES)(_do)
    waiting = list(folders)
    running: dict[Any, JobFolder] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                folder = waiting.pop(0)
                running[task.remote(str(folder.path.resolve()), cpus)] = folder
                started(folder)
            done, _ = ray.wait(list(running), num_returns=1)
            for reference in done:
                folder = running.pop(reference)
                _note(ray, reference, folder)
                ended(folder)
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


def _do(path: str, threads: int) -> None:
    """Runs on a node: does one job in a process of its own, which ends with this one."""
    folder = JobFolder(Path(path))
    process = start(folder, threads)
    try:
        note_end(folder, process.wait())
    finally:
        stop([process])


def _note(ray: Any, reference: Any, folder: JobFolder) -> None:
    try:
        ray.get(reference)
    except ray.exceptions.RayError as error:
        folder.update(status="failed", error=f"Ray: {str(error).splitlines()[0]}")
