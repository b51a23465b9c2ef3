"""The choice of what runs jobs: this machine or a Ray cluster. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence

from pnil_tf.jobs.local import run_locally
from pnil_tf.jobs.on_ray import check_cluster, run_on_ray
from pnil_tf.jobs.watch import AJob, Watch


def require_engine(engine: str, gpus: float = 0.0) -> None:
    """Refuses an engine that cannot run jobs, before there is any work for it.

    Args:
        engine: One of `pnil_tf.vocabulary.ENGINES`.
        gpus: GPUs that Ray gives each job.

    Raises:
        UserError: If so.
    """
    if engine == "ray":
        check_cluster(gpus)


def run_jobs(
    engine: str, jobs: Sequence[AJob], workers: int, watch: Watch[AJob], gpus: float = 0.0
) -> None:
    """Runs jobs in order; a failed one does not stop the others.

    Args:
        engine: What runs them, one of `pnil_tf.vocabulary.ENGINES`.
        jobs: Jobs whose folders are prepared.
        workers: Jobs at once.
        watch: What is told and asked meanwhile.
        gpus: GPUs that Ray gives each job; a local job takes those that it finds.
    """
    if engine == "ray":
        run_on_ray(jobs, workers, watch, gpus)
    else:
        run_locally(jobs, workers, watch)
