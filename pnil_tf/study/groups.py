"""Cells gathered into the rows of table 1: all runs of one way to train."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from pnil_tf.evaluation.statistics import wilson
from pnil_tf.study.statistics import Comparison, corrected_resampled_t, mean_and_deviation
from pnil_tf.study.studies import AUTO, OTHERS, PGD

PAPER_ATTACKS = ("pgd", "spsa")
STRONG_ATTACK = "pgd_strong"
COLUMNS = {
    "clean": "clean",
    "spsa": "SPSA",
    "pgd": "PGD",
    "min": "Min",
    STRONG_ATTACK: STRONG_ATTACK,
    "min_strong": "Min with it",
    AUTO: AUTO,
}
"""The columns of table 1 and their heads: the paper's Min, Min over `pgd_strong`, too, and what
the suite `auto` leaves, by the worst case of each image."""

Run = tuple[int | None, int | None]
"""Repeat and fold."""


@dataclasses.dataclass(frozen=True)
class Group:
    """All finished runs of one way to train.

    Args:
        dataset: Name of the data set.
        epsilon: Radius, in units of pixels in [0, 1].
        attack: Training attack.
        pnil: Whether with PNIL.
        accuracies: For `"clean"` and each attack the accuracy of every run, in [0, 1].
        records: The runs' records.
    """

    dataset: str
    epsilon: float
    attack: str
    pnil: bool
    accuracies: dict[str, dict[Run, float]]
    records: list[dict[str, Any]]

    def runs(self, column: str) -> dict[Run, float]:
        """The accuracy of every run in a column of `COLUMNS`; empty if it was not measured."""
        if column == "min":
            column = self.weakest(PAPER_ATTACKS)
        elif column == "min_strong" and STRONG_ATTACK in self.accuracies:
            column = self.weakest((*PAPER_ATTACKS, STRONG_ATTACK))
        return self.accuracies.get(column, {})

    def summary(self, column: str) -> tuple[float, float | None] | None:
        """Mean and standard deviation over the runs; `None` if the column was not measured."""
        found = self.runs(column)
        return mean_and_deviation(np.array(list(found.values()))) if found else None

    def weakest(self, attacks: tuple[str, ...]) -> str:
        """The attack with the lowest mean accuracy, whose column is the paper's Min.

        One that saw fewer images than the others counts only where it is surely lower.
        """
        most = max(map(self.images, attacks))
        best = min((n for n in attacks if self.images(n) == most), key=self._mean)
        return min((n for n in attacks if n == best or self.surely_lower(n, best)), key=self._mean)

    def surely_lower(self, attack: str, other: str) -> bool:
        """Whether the 95 % interval of an attack, over images, lies below the figure of another."""
        return wilson(np.full(self.images(attack), self._mean(attack))).high < self._mean(other)

    def _mean(self, column: str) -> float:
        return float(np.mean(list(self.accuracies[column].values())))

    def images(self, column: str) -> int:
        """How many different images a column rests on: the repeats of a fold may share theirs."""
        seen: dict[int | None, int] = {}
        for record in self.records:
            fold, figures = record["cell"]["fold"], _figures(record)
            if column in figures:  # the suite may not have come to every run yet
                seen[fold] = max(seen.get(fold, 0), figures[column]["images"])
        return sum(seen.values())


def groups_of(cells: list[dict[str, Any]], cross_validated: bool = True) -> list[Group]:
    """Returns the rows of table 1, in the order of the cells.

    Args:
        cells: The records of `pnil_tf.study.results.merged`; unfinished ones are left out.
        cross_validated: Whether to take the runs on folds, or those on the predefined split.
    """
    found: dict[tuple[str, float, str, bool], Group] = {}
    for record in cells:
        measured = _figures(record)
        if not {"clean", *PAPER_ATTACKS} <= set(measured):
            continue
        cell = record["cell"]
        if (cell["fold"] is not None) != cross_validated:
            continue
        key = (cell["dataset"], cell["epsilon"], cell["attack"], cell["pnil"])
        group = found.setdefault(key, Group(*key, accuracies={}, records=[]))
        group.records.append(record)
        for column, figure in measured.items():
            run = (cell["repeat"], cell["fold"])
            group.accuracies.setdefault(column, {})[run] = figure["value"]
    return list(found.values())


def _figures(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    columns = ("clean", *PAPER_ATTACKS, STRONG_ATTACK)
    tables = [record["evaluations"].get(name, {}) for name in (OTHERS, PGD)]
    found = {column: table[column] for table in tables for column in columns if column in table}
    suite = record["evaluations"].get(AUTO, {})  # whose own attacks see fewer images
    return {**found, AUTO: suite[AUTO]} if AUTO in suite else found


def compared(noisy: Group, plain: Group, column: str) -> Comparison | None:
    """Compares a column with PNIL to that without, over the runs that both have; `None` if none.

    Args:
        noisy: The runs with PNIL.
        plain: Those without.
        column: A name out of `COLUMNS`.
    """
    ours, theirs = noisy.runs(column), plain.runs(column)
    both = [run for run in ours if run in theirs]
    if not both:
        return None
    return corrected_resampled_t(np.array([ours[run] - theirs[run] for run in both]))


def pairs_of(groups: list[Group]) -> list[tuple[Group, Group]]:
    """Returns `(with PNIL, without)` for each data set, radius and training attack."""
    by_key = {(g.dataset, g.epsilon, g.attack, g.pnil): g for g in groups}
    return [
        (by_key[(*key, True)], by_key[(*key, False)])
        for key in dict.fromkeys((g.dataset, g.epsilon, g.attack) for g in groups)
        if {(*key, True), (*key, False)} <= set(by_key)
    ]
