"""Jobs on a Ray cluster, whose nodes share the file system that holds the jobs' folders."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from pnil_tf.errors import UserError, argument
from pnil_tf.jobs.job import Job
from pnil_tf.jobs.process import start, stop
from pnil_tf.jobs.watch import AJob, Watch

# A job goes on where it was, so that starting it again on another node costs little.
_LOST_NODES = 5
PARTS_OF_A_GPU = 10_000
"""Ray cuts a GPU into no more."""
_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_TO_ANSWER = 10.0
_ADDRESS = "RAY_ADDRESS"
# What Ray looks for itself, or starts.
_NOWHERE = ("", "auto", "local")


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


def check_cluster(gpus: float = 0.0) -> None:
    """Refuses a cluster that cannot run a job, before there is work for it.

    Args:
        gpus: GPUs of each job.

    Raises:
        UserError: If Ray is not installed, the cluster of `RAY_ADDRESS` cannot be reached, or no
            node has so many GPUs.
    """
    ray = require_ray()
    if gpus or os.environ.get(_ADDRESS, "") not in ("", "local"):
        with _connected(ray):
            _refuse_gpus(ray.nodes(), gpus)


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
    with _connected(ray):
        _refuse_gpus(ray.nodes(), gpus)
        _run(ray, jobs, workers, watch, gpus)


def _run(ray: Any, jobs: Sequence[AJob], workers: int, watch: Watch[AJob], gpus: float) -> None:
    cpus = cpus_of_each(ray.nodes(), workers)
    task = ray.remote(num_cpus=cpus, num_gpus=_in_parts(gpus), max_retries=_LOST_NODES)(_do)
    waiting = list(jobs)
    running: dict[Any, AJob] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop(0)
                # A node's current folder is another one.
                running[task.remote(type(job)(job.path.resolve()), cpus)] = job
                watch.started(job)
            # Waiting within Ray, a signal would lose its exit status.
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            done, _ = ray.wait(list(running), num_returns=len(running), timeout=0)
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


@contextlib.contextmanager
def _connected(ray: Any) -> Iterator[None]:
    """Within it, this process is connected to the cluster, as it may have been before."""
    if ray.is_initialized():
        yield
        return
    address = os.environ.get(_ADDRESS, "")
    try:
        _reach(address)
        with _own_signals():
            ray.init(log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"No Ray cluster can be used: {str(error).splitlines()[0]}. Received: "
            f"{_ADDRESS}={address!r}. It must be HOST:PORT of a cluster that runs, or be unset: "
            "then Ray starts one on this machine."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Tries whether anybody listens at an address; Ray itself would try for minutes.

    Raises:
        OSError: If not.
        ValueError: If it is no address.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address in _NOWHERE:
        return
    if not host or not (port.isascii() and port.isdecimal()) or int(port) >= 2**16:
        raise ValueError("its address is none")
    with socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_ANSWER):
        pass


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keeps what answers SIGTERM here: Ray puts a handler of its own in its place."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


def _refuse_gpus(nodes: list[dict[str, Any]], gpus: float) -> None:
    """Refuses jobs that would wait for ever for a node with so many GPUs."""
    most = max((node["Resources"].get("GPU", 0.0) for node in nodes if node["Alive"]), default=0.0)
    if gpus > most:
        raise UserError(
            f"No node of the Ray cluster has more than {most:g} GPUs. Asked for by each job: "
            f"{gpus:g}. Ask for fewer, or start nodes that have them."
        )


def cpus_of_each(nodes: list[dict[str, Any]], workers: int) -> int:
    """CPUs of each of so many jobs: an even share of the cluster's that fits on every node."""
    counts = [int(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]]
    counts = [count for count in counts if count] or [1]
    return max(1, min(sum(counts) // workers, *counts))


def _in_parts(gpus: float) -> float:
    """A share of a GPU, 1/3 for example, as Ray counts it."""
    return min(gpus, math.floor(gpus * PARTS_OF_A_GPU + 1e-6) / PARTS_OF_A_GPU)


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
