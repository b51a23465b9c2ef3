"""What whoever has jobs done is told meanwhile, and asked. Imports no TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Generic, TypeVar

from pnil_tf.jobs.job import Job

AJob = TypeVar("AJob", bound=Job)


@dataclasses.dataclass(frozen=True)
class Watch(Generic[AJob]):
    """What an engine calls while it runs jobs.

    Args:
        started: Called when a job starts, or is handed to a cluster.
        ended: Called when a job has ended; its folder says how.
        again: Asked then whether the job is to be started once more.
        meanwhile: Called again and again while jobs run.
    """

    started: Callable[[AJob], None] = lambda job: None
    ended: Callable[[AJob], None] = lambda job: None
    again: Callable[[AJob], bool] = lambda job: False
    meanwhile: Callable[[], None] = lambda: None
