"""Why our figures may differ from the paper's: only what these runs give cause to say."""

from __future__ import annotations

from typing import Any

import numpy as np

from pnil_tf.study import formatting
from pnil_tf.study.budgets import BUDGETS
from pnil_tf.study.cells import Cell
from pnil_tf.study.groups import STRONG_ATTACK, Group
from pnil_tf.study.statistics import mean_and_deviation
from pnil_tf.study.table import AGREES, Claim, claims, place
from pnil_tf.training.settings import PAPER_EPSILON

# In accuracy: what is worth a sentence.
_MUCH = 0.05


def reasons(groups: list[Group]) -> list[str]:
    """Returns sentences, each with the rows that give cause for it.

    Args:
        groups: The rows of table 1.
    """
    differing = [claim for claim in claims(groups) if claim.verdict != AGREES]
    plain = [claim.plain for claim in differing if not any(_collapses(claim.plain))]
    smaller = {(g.dataset, g.epsilon) for g in groups for h in groups if _is_smaller(g, h)}
    collapsed = [group for group in groups if any(_collapses(group))]
    causes = {
        "The budget: these are smaller than the paper's experiment": _smaller(differing),
        "The radius: with pixels in [0, 1] the radius in the paper's text is small here. Without "
        "PNIL these have no need to hide anything, and the paper's figures may belong to a "
        "harder scale than its text says": [
            _with_min(group) for group in plain if (group.dataset, group.epsilon) in smaller
        ],
        "The random start: it is not clipped to [0, 1], neither here nor in the paper's "
        "algorithm. With a clipped start half of it vanishes on black pixels, and RFGSM collapses "
        "more easily than in these": [
            _with_min(group) for group in plain if group.attack == "rfgsm"
        ],
        "The checkpoint: the one with the lowest adversarial validation loss comes from before a "
        "collapse, so that these collapsed for good and still resist a little": [
            f"{place(group)} ({_of(lost)}, Min {formatting.percent(_min_of(group, lost))})"
            for group in collapsed
            if _most(lost := _lost(group)) and _min_of(group, lost)[0] > _MUCH
        ],
        "The start of the noise: PNIL has to be noisy enough from the beginning to prevent a "
        "collapse, and the paper does not say how it starts. Collapses with PNIL": [
            f"{place(group)} ({_of(_collapses(group))})" for group in collapsed if group.pnil
        ],
        "The length of the training: the epoch kept with PNIL was the last one, after which these "
        "might have gone on to learn": [
            f"{claim.place} ({_of(_kept_last(claim.noisy))} with PNIL, "
            f"{_of(_kept_last(claim.plain))} without)"
            for claim in differing
            if _most(_kept_last(claim.noisy))
        ],
        "The attack: PGD with steps of 2 eps / steps is weak, and the column PGD no measure of "
        "robustness where pgd_strong leaves much less": [
            f"{place(group)} ({formatting.percent(group.summary('pgd'))} against "
            f"{formatting.percent(group.summary(STRONG_ATTACK))})"
            for group in groups
            if group.summary(STRONG_ATTACK)
            and _mean(group, STRONG_ATTACK) < _mean(group, "pgd") - _MUCH
        ],
    }
    return [f"{cause}: {'; '.join(rows)}." for cause, rows in causes.items() if rows]


def _smaller(claims_: list[Claim]) -> list[str]:
    """The pairs whose effort stays below that of the paper's experiment, those alike together."""
    found: dict[str, list[str]] = {}
    for claim in claims_:
        less = [
            f"{name} {ours} for {paper}" for name, ours, paper in _efforts(claim) if ours < paper
        ]
        if less:
            found.setdefault(", ".join(less), []).append(claim.place)
    return [f"{' and '.join(places)} ({less})" for less, places in found.items()]


def _efforts(claim: Claim) -> list[tuple[str, int, int]]:
    """What a pair cost and what it costs in the paper's experiment: `(name, ours, paper)`."""
    record, full = claim.noisy.records[0], BUDGETS["full"]
    effort: dict[str, Any] = vars(full.effort_of(Cell(**record["cell"])))
    runs = max(part.repeats * part.folds for part in full.parts)
    names = ("width", "epochs", "images")
    found = [(name, record["effort"][name], effort[name]) for name in names]
    return [("runs", claim.comparison.runs, runs), *found]


def _of(runs: list[bool]) -> str:
    return f"{sum(runs)} of {len(runs)} runs"


def _most(runs: list[bool]) -> bool:
    return 2 * sum(runs) > len(runs)


def _collapses(group: Group) -> list[bool]:
    """Whether the guard saw catastrophic overfitting in each run."""
    return [bool(record["training"]["guard_events"]) for record in group.records]


def _lost(group: Group) -> list[bool]:
    """Whether each run collapsed after the epoch that was kept, and did not recover."""

    def is_lost(training: dict[str, Any]) -> bool:
        events = training["guard_events"]
        return (
            bool(events)
            and events[-1]["what"] == "collapse"
            and training["kept"]["epoch"] < events[-1]["epoch"]
        )

    return [is_lost(record["training"]) for record in group.records]


def _min_of(group: Group, chosen: list[bool]) -> tuple[float, float | None]:
    """Mean and standard deviation of Min over some of a group's runs."""
    cells = [record["cell"] for record in group.records]
    minima = group.runs("min")
    values = [
        minima[cell["repeat"], cell["fold"]]
        for cell, take in zip(cells, chosen, strict=True)
        if take
    ]
    return mean_and_deviation(np.array(values))


def _kept_last(group: Group) -> list[bool]:
    """Whether the checkpoint of each run is that of its last epoch, of several."""
    return [
        record["training"]["kept"]["epoch"] == record["effort"]["epochs"] > 1
        for record in group.records
    ]


def _is_smaller(group: Group, other: Group) -> bool:
    """Whether a row has the paper's radius, and another of the same images twice it or more."""
    is_stated = group.epsilon == PAPER_EPSILON.get(group.dataset)
    return is_stated and group.dataset == other.dataset and 2 * group.epsilon <= other.epsilon


def _mean(group: Group, column: str) -> float:
    summary = group.summary(column)
    return summary[0] if summary else 0.0


def _with_min(group: Group) -> str:
    return f"{place(group)} (Min {formatting.percent(group.summary('min'))})"
