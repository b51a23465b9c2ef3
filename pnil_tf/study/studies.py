"""The studies: which cells are trained and how each is evaluated. Imports no TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from pnil_tf.study.budgets import Budget, Effort
from pnil_tf.study.cells import Cell, Part, cells_of
from pnil_tf.training.settings import PAPER_EPSILON

# Evaluations by the name of their folder.
PGD, OTHERS, AUTO = "pgd", "others", "auto"
MADRY_ATTACK = "pgd-7"


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One evaluation of a cell's classifier.

    Args:
        name: Name of its folder within the cell's.
        epsilon: Radius of its attacks.
        options: Further fields of `EvaluationSettings`, as JSON types.
    """

    name: str
    epsilon: float
    options: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Job:
    """A cell with what it may cost and how it is evaluated.

    Args:
        cell: The classifier.
        effort: What it may cost.
        data_source: As in `DataSettings`.
        evaluations: What is done when it is trained.
    """

    cell: Cell
    effort: Effort
    data_source: str
    evaluations: tuple[Evaluation, ...]


def jobs_of(study: str, budget: Budget) -> list[Job]:
    """Returns the jobs of a study, in the order in which they are done.

    Args:
        study: A name out of `STUDIES`.
        budget: How much of it.
    """
    cells, evaluations = STUDIES[study]
    return [
        Job(cell, effort, budget.data_source, evaluations(cell, effort))
        for cell in cells(budget)
        for effort in [budget.effort_of(cell)]
    ]


def _table_cells(budget: Budget) -> list[Cell]:
    return [cell for part in budget.parts for cell in cells_of(part)]


def _first_cells(budget: Budget) -> list[Cell]:
    """One classifier of each kind, for the largest radius of the first data set."""
    first = budget.parts[0].dataset
    part = max((p for p in budget.parts if p.dataset == first), key=lambda p: p.epsilon)
    return cells_of(dataclasses.replace(part, repeats=1, folds=1))


def _one_noisy_cell(budget: Budget) -> list[Cell]:
    return [cell for cell in _first_cells(budget) if cell.pnil][-1:]


def _noisy_cells(budget: Budget) -> list[Cell]:
    return [cell for cell in _first_cells(budget) if cell.pnil]


def _noisy_cell_of_each_set(budget: Budget) -> list[Cell]:
    largest: dict[str, Part] = {}
    for part in budget.parts:
        if part.dataset not in largest or part.epsilon > largest[part.dataset].epsilon:
            largest[part.dataset] = part
    return [
        cells_of(dataclasses.replace(part, repeats=1, folds=1))[-1] for part in largest.values()
    ]


def _madry_cells(budget: Budget) -> list[Cell]:
    """On the predefined split: the paper's classifier, and Madry's training."""
    epsilon = PAPER_EPSILON["cifar10"]
    return [Cell("cifar10", epsilon, "nfgsm", True), Cell("cifar10", epsilon, MADRY_ATTACK, False)]


def _table_evaluations(cell: Cell, effort: Effort) -> tuple[Evaluation, ...]:
    options = _options(effort, effort.images)
    pgd = {**options, "attacks": ["pgd"], "faithful": True, "steps": effort.pgd_steps}
    # SPSA here is the paper's, too, but an image that is lost need not be attacked any longer.
    others = {
        **options,
        "attacks": ["pgd_strong", "spsa"] if effort.pgd_strong else ["spsa"],
        "spsa_images": effort.spsa_images,
        "spsa_samples": effort.spsa_samples,
        "spsa_steps": effort.spsa_steps,
    }
    evaluations = [Evaluation(PGD, cell.epsilon, pgd), Evaluation(OTHERS, cell.epsilon, others)]
    if effort.auto_images:
        auto = {**_options(effort, effort.auto_images), "attacks": [AUTO]}
        evaluations.append(Evaluation(AUTO, cell.epsilon, auto))
    return tuple(evaluations)


def _no_evaluations(cell: Cell, effort: Effort) -> tuple[Evaluation, ...]:
    return ()


def _over_draws(cell: Cell, effort: Effort) -> tuple[Evaluation, ...]:
    options = _figure_options(effort)
    return tuple(
        Evaluation(f"draws{draws}", cell.epsilon, {**options, "eot_samples": draws})
        for draws in effort.eot_curve
    )


def _over_epsilon(cell: Cell, effort: Effort) -> tuple[Evaluation, ...]:
    options = _figure_options(effort)
    return tuple(
        Evaluation(f"epsilon{multiple:g}", min(multiple * cell.epsilon, 1.0), options)
        for multiple in effort.epsilon_curve
    )


def _figure_options(effort: Effort) -> dict[str, Any]:
    options = _options(effort, effort.figure_images)
    return {**options, "attacks": ["pgd"], "faithful": True, "steps": effort.pgd_steps}


def _options(effort: Effort, images: int) -> dict[str, Any]:
    return {
        "images": images,
        "eot_samples": effort.eot_samples,
        "judge_draws": effort.judge_draws,
        "batch_size": effort.batch_size,
        "checks": False,
    }


STUDIES: dict[
    str,
    tuple[
        Callable[[Budget], list[Cell]],
        Callable[[Cell, Effort], tuple[Evaluation, ...]],
    ],
] = {
    "table1": (_table_cells, _table_evaluations),
    "figure1": (_one_noisy_cell, _no_evaluations),
    "figure3": (_noisy_cell_of_each_set, _no_evaluations),
    "figure4": (_noisy_cells, _over_draws),
    "figure5": (_first_cells, _over_epsilon),
    "cifar10_madry": (_madry_cells, _table_evaluations),
}
