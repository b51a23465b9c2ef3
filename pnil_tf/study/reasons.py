"""Why our figures may differ from the paper's: only what these runs give cause to say."""

from __future__ import annotations

from pnil_tf.study import words
from pnil_tf.study.groups import STRONG_ATTACK, Group, pairs_of
from pnil_tf.study.table import AGREES, place, verdict_on
from pnil_tf.training.settings import PAPER_EPSILON

# In accuracy: what is worth a sentence.
_MUCH = 0.05


def reasons(groups: list[Group]) -> list[str]:
    """Returns sentences, each with the rows that give cause for it.

    Args:
        groups: The rows of table 1.
    """
    differing = [pair for pair in pairs_of(groups) if verdict_on(*pair) not in (AGREES, None)]
    plain = [without for _, without in differing if not any(_collapses(without))]
    smaller = {(g.dataset, g.epsilon) for g in groups for h in groups if _is_smaller(g, h)}
    collapsed = [group for group in groups if any(_collapses(group))]
    causes = {
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
        "collapse, so that these collapsed and still resist a little": [
            _with_min(group) for group in collapsed if _mean(group, "min") > _MUCH
        ],
        "The start of the noise: PNIL has to be noisy enough from the beginning to prevent a "
        "collapse, and the paper does not say how it starts. Collapses with PNIL": [
            f"{place(group)} ({sum(_collapses(group))} of {len(group.records)} runs)"
            for group in collapsed
            if group.pnil
        ],
        "The length of the training: learning with noise takes longer, and the epoch kept was the "
        "last one, after which these might have gone on to learn": [
            f"{place(group)} ({sum(_kept_last(group))} of {len(group.records)} runs)"
            for group, _ in differing
            if 2 * sum(_kept_last(group)) > len(group.records)
        ],
        "The attack: PGD with steps of 2 eps / steps is weak, and the column PGD no measure of "
        "robustness where pgd_strong leaves much less": [
            f"{place(group)} ({words.percent(group.summary('pgd'))} against "
            f"{words.percent(group.summary(STRONG_ATTACK))})"
            for group in groups
            if group.summary(STRONG_ATTACK)
            and _mean(group, STRONG_ATTACK) < _mean(group, "pgd") - _MUCH
        ],
    }
    return [f"{cause}: {'; '.join(rows)}." for cause, rows in causes.items() if rows]


def _collapses(group: Group) -> list[bool]:
    """Whether the guard saw catastrophic overfitting in each run."""
    return [bool(record["training"]["guard_events"]) for record in group.records]


def _kept_last(group: Group) -> list[bool]:
    """Whether the checkpoint of each run is that of its last epoch."""
    return [
        record["training"]["kept"]["epoch"] == record["effort"]["epochs"]
        for record in group.records
    ]


def _is_smaller(group: Group, other: Group) -> bool:
    """Whether a row has the paper's radius, and another one of the same images a larger one."""
    is_stated = group.epsilon == PAPER_EPSILON.get(group.dataset)
    return is_stated and group.dataset == other.dataset and group.epsilon < other.epsilon


def _mean(group: Group, column: str) -> float:
    summary = group.summary(column)
    return summary[0] if summary else 0.0


def _with_min(group: Group) -> str:
    return f"{place(group)} (Min {words.percent(group.summary('min'))})"
