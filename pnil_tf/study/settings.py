"""What `bin/reproduce.py` can be told, checked as soon as it is said. Imports no TensorFlow."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pnil_tf.errors import UserError, argument
from pnil_tf.files import refuse_file_in_the_way
from pnil_tf.jobs.on_ray import PARTS_OF_A_GPU
from pnil_tf.study.budgets import BUDGETS
from pnil_tf.study.studies import STUDIES
from pnil_tf.validation import (
    check_types,
    require_count,
    require_one_of,
    require_part_or_count,
)
from pnil_tf.vocabulary import ENGINES


@dataclasses.dataclass(frozen=True)
class StudySettings:
    """Which study, how much of it, and where.

    Args:
        study: A name out of `STUDIES`.
        budget: A name out of `BUDGETS`.
        output: Folder of the cells and the report; `None` is `studies/BUDGET`, which all studies
            of a budget share, so that none trains what another has trained.
        data_dir: Where the images are looked for first, see `DataSettings`.
        workers: Jobs at once, each in a process of its own.
        engine: `"local"` or `"ray"`.
        gpus_per_job: GPUs that Ray gives each job; may be a fraction.
        yes: Whether to begin without asking.
        report_only: Whether to write the report on what is there, and do nothing else.

    Raises:
        UserError: If a value, or a combination of them, is not valid.
    """

    study: str = "table1"
    budget: str = "cpu"
    output: str | None = None
    data_dir: str | None = None
    workers: int = 1
    engine: str = "local"
    gpus_per_job: float = 0.0
    yes: bool = False
    report_only: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        for name, known in (("study", STUDIES), ("budget", BUDGETS), ("engine", ENGINES)):
            require_one_of(name, getattr(self, name), known)
        require_count("workers", self.workers)
        require_part_or_count("gpus_per_job", self.gpus_per_job, PARTS_OF_A_GPU)
        if self.gpus_per_job and self.engine != "ray":
            raise UserError(
                "GPUs are shared out by Ray alone. Received: "
                f"{argument('gpus_per_job', self.gpus_per_job)} with "
                f"{argument('engine', self.engine)}. Add {argument('engine', 'ray')}, or leave it "
                "out: a local job takes the GPUs it finds."
            )
        if (self.study, self.budget) == ("cifar10_madry", "smoke"):
            raise UserError(
                "The smoke budget has digits only, which the study 'cifar10_madry' is not about. "
                f"Use {argument('budget', 'cpu')} or {argument('budget', 'full')}."
            )
        refuse_file_in_the_way(argument("output"), self.folder)
        if self.report_only and not self.folder.is_dir():
            raise UserError(
                f"There is nothing to report on: {str(self.folder)!r} does not exist. Run the "
                "study "
                f"first, or correct {argument('output')}."
            )

    @property
    def folder(self) -> Path:
        """Where the cells and the report are."""
        return Path(self.output) if self.output else Path("studies") / self.budget
