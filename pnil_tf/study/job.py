"""Does one job in a process of its own, as `pnil_tf.jobs.process` starts it."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from pnil_tf.data import DataSettings
from pnil_tf.errors import failure, reason
from pnil_tf.files import lock_folder, remove_leftovers
from pnil_tf.jobs.process import end_with_parent
from pnil_tf.leaving import work_and_leave
from pnil_tf.runs.evaluate import evaluate_saved
from pnil_tf.runs.settings import RunSettings, TrainSettings
from pnil_tf.runs.train import train
from pnil_tf.standard_streams import guard
from pnil_tf.study.job_folder import JobFolder
from pnil_tf.study.studies import Evaluation, Job
from pnil_tf.training.settings import AttackTrainingSettings, ModelSettings, OptimizationSettings

logger = logging.getLogger("pnil_tf.study.job")  # not __name__, which is __main__ here

# A killed grid's job saves its last step before it lets the folder go.
_SECONDS_TO_LET_GO = 60.0


def run_job(path: Path) -> None:
    """Trains the classifier of a prepared folder and evaluates it; what is done stays done.

    Raises:
        Exception: Whatever went wrong; `job.json` says so, too.
    """
    folder = JobFolder(path)
    with lock_folder(path, wait=_SECONDS_TO_LET_GO):
        remove_leftovers(path)
        logger.info("Working on %s", path.name)
        folder.update(status="begun", error=None)
        try:
            job = folder.job()
            if folder.run_record() is None:
                data_dir = folder.read()["data_dir"]
                settings = training_settings(job, folder.path, data_dir)
                # The images may have moved since the run was begun.
                train(settings, {"dataset": job.cell.dataset, "data_dir": data_dir})
            for evaluation in job.evaluations:
                if folder.results(evaluation.name) is None:
                    _evaluate(folder, evaluation)
        except Exception as error:
            said = failure(error) or f"{type(error).__name__}: {reason(error)}"
            folder.update(status="failed", error=said)
            raise
        folder.update(status="finished")


def training_settings(job: Job, folder: Path, data_dir: str | None) -> TrainSettings:
    """Returns the settings of a job's training, which resumes if there is something to resume.

    Args:
        job: The job.
        folder: Where its run belongs.
        data_dir: As in `DataSettings`.
    """
    cell, effort = job.cell, job.effort
    return TrainSettings(
        data=DataSettings(
            cell.dataset,
            data_dir=data_dir,
            data_source=job.data_source,
            repeat=cell.repeat,
            fold=cell.fold,
        ),
        model=ModelSettings(
            model=cell.model, width=effort.width, pnil=cell.pnil, pnil_sigma=cell.pnil_sigma
        ),
        attack=AttackTrainingSettings(
            attack=cell.attack, epsilon=cell.epsilon, validation_images=effort.validation_images
        ),
        optimization=OptimizationSettings(
            epochs=effort.epochs,
            max_lr=effort.max_lr,
            schedule=effort.schedule,
            seed=cell.seed,
        ),
        run=RunSettings(runs_dir=str(folder), name="run", resume=True, evaluation_images=0),
    )


def _evaluate(folder: JobFolder, evaluation: Evaluation) -> None:
    evaluate_saved(
        str(folder.run),
        epsilon=evaluation.epsilon,
        output=str(folder.evaluation(evaluation.name)),
        resume=True,
        data={"data_dir": folder.read()["data_dir"]},
        options=evaluation.options,
    )


if __name__ == "__main__":
    guard()
    end_with_parent()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("pnil_tf").setLevel(logging.INFO)
    work_and_leave(lambda: run_job(Path(sys.argv[1])))
