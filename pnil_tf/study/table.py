"""Table 1: our rows beside the paper's, and what separates PNIL from none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pnil_tf.contract.pixel_range import share_text
from pnil_tf.study import formatting
from pnil_tf.study.groups import COLUMNS, PAPER_ATTACKS, Group, compared, pairs_of
from pnil_tf.study.paper import published
from pnil_tf.study.statistics import ALPHA, Comparison
from pnil_tf.study.studies import AUTO

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""Heads and rows of plain text."""

GUESSING = 0.1
"""Accuracy of a constant answer to ten classes, which all of the paper's data sets have."""

AGREES, DISAGREES, UNDECIDED = "agrees", "disagrees", "undecided"


def markdown(table: Table) -> str:
    """Returns a table as Markdown."""
    heads, rows = table
    return "\n".join([_line(heads), "|" + " --- |" * len(heads), *map(_line, rows)])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def table_1(groups: list[Group]) -> Table:
    """Returns the rows: accuracy in percent, mean ± standard deviation over the runs.

    A star marks the higher figure of a pair whose difference is significant at the paper's level.
    """
    paper = "the paper: clean / SPSA / PGD / Min"
    columns = {name: head for name, head in COLUMNS.items() if name != AUTO or has_suite(groups)}
    images = f"images: PGD, SPSA{f', {AUTO}' if AUTO in columns else ''}"
    heads = ("data", "eps", "training", "runs", images, *columns.values(), paper)
    stars = {column: _better(pairs_of(groups), column) for column in columns}
    rows = []
    for group in groups:
        found = published(group.dataset, group.attack, group.pnil)
        theirs = [f"{mean} ± {sd}" for mean, sd in (found or {}).values()]
        figures = [
            formatting.percent(group.summary(column))
            + "*" * any(group is better for better in stars[column])
            for column in columns
        ]
        attacks = [name for name in (*PAPER_ATTACKS, AUTO) if name in group.accuracies]
        seen = ", ".join(str(group.images(attack)) for attack in attacks)
        runs = str(len(group.records))
        rows.append((*_row_heads(group), runs, seen, *figures, " / ".join(theirs)))
    return heads, rows


def has_suite(groups: list[Group]) -> bool:
    """Whether the suite `auto` has attacked any of the runs."""
    return any(AUTO in group.accuracies for group in groups)


def _row_heads(group: Group) -> tuple[str, str, str]:
    """What a row is about: the images, the radius, the training."""
    training = formatting.model(group.attack, group.pnil)
    return formatting.images(group.records[0]), share_text(group.epsilon), training


def _better(pairs: list[tuple[Group, Group]], column: str) -> list[Group]:
    found = []
    for noisy, plain in pairs:
        comparison = compared(noisy, plain, column)
        if comparison is not None and comparison.significant:
            found.append(noisy if comparison.mean > 0 else plain)
    return found


def comparisons(groups: list[Group]) -> Table:
    """Returns what PNIL adds, in points: with intervals, effect sizes and p-values."""
    heads: tuple[str, ...] = (
        *("data", "eps", "training", "accuracy", "runs", "with PNIL − without (95 % interval)"),
        *("in standard deviations (95 % interval)", "p", f"significant at {ALPHA:g}", "the paper"),
    )
    rows: list[tuple[str, ...]] = []
    for noisy, plain in pairs_of(groups):
        for column, head in COLUMNS.items():
            comparison = compared(noisy, plain, column)
            if comparison is None:
                continue
            theirs, effect = paper_difference(noisy, column), comparison.effect
            rows.append(
                (
                    *_row_heads(noisy)[:2],
                    noisy.attack.upper(),
                    "Min with pgd_strong" if column == "min_strong" else head,
                    str(comparison.runs),
                    points(comparison),
                    ""
                    if effect is None
                    else f"{effect.value:+.2f} ({effect.low:+.2f} to {effect.high:+.2f})",
                    formatting.p_value(comparison.p),
                    "yes" if comparison.significant else "no",
                    "" if theirs is None else f"{theirs:+d}",
                )
            )
    return heads, rows


def points(comparison: Comparison) -> str:
    """Writes a difference in points with its interval."""
    if comparison.p is None:
        return f"{100 * comparison.mean:+.1f}"
    ends = [f"{100 * end:+.1f}" for end in (comparison.low, comparison.high)]
    return f"{100 * comparison.mean:+.1f} ({ends[0]} to {ends[1]})"


def paper_difference(noisy: Group, column: str) -> int | None:
    """The paper's figure with PNIL minus that without, in points; `None` where it has none."""
    ours, theirs = (published(noisy.dataset, noisy.attack, pnil) for pnil in (True, False))
    if ours is None or theirs is None or column not in ours:
        return None
    return ours[column][0] - theirs[column][0]


@dataclasses.dataclass(frozen=True)
class Claim:
    """The paper's claim that PNIL raises Min, for one way to train, beside our runs.

    Args:
        noisy: The runs with PNIL.
        plain: Those without.
        comparison: What PNIL adds to Min in them.
        theirs: What it adds in the paper, in points.
    """

    noisy: Group
    plain: Group
    comparison: Comparison
    theirs: int

    @property
    def verdict(self) -> str:
        """`AGREES` or `DISAGREES`, by the sign, if significant at the paper's level."""
        if not self.comparison.significant:
            return UNDECIDED
        return AGREES if (self.comparison.mean > 0) == (self.theirs > 0) else DISAGREES

    @property
    def place(self) -> str:
        """The images, the radius, the training attack."""
        return pair_place(self.noisy)


def claims(groups: list[Group]) -> list[Claim]:
    """Returns the paper's claim for each pair that both it and our runs have."""
    found = []
    for noisy, plain in pairs_of(groups):
        comparison, theirs = compared(noisy, plain, "min"), paper_difference(noisy, "min")
        if comparison is not None and theirs is not None:
            found.append(Claim(noisy, plain, comparison, theirs))
    return found


def agreement(groups: list[Group]) -> dict[str, list[str]]:
    """Says by its verdict what our runs say of the paper's claim, a sentence for each pair."""
    found: dict[str, list[str]] = {AGREES: [], DISAGREES: [], UNDECIDED: []}
    for claim in claims(groups):
        ours = [formatting.percent(group.summary("min")) for group in (claim.noisy, claim.plain)]
        found[claim.verdict].append(
            f"{claim.place}: Min is {ours[0]} with PNIL and {ours[1]} without, a difference of "
            f"{_in_runs(claim.comparison)}; the paper's difference is {claim.theirs:+d}."
        )
    return found


def _in_runs(comparison: Comparison) -> str:
    over = "one run"
    if comparison.runs > 1:
        over = f"{comparison.runs} runs (p = {formatting.p_value(comparison.p)})"
    return f"{points(comparison)} points over {over}"


def under_suite(groups: list[Group]) -> list[str]:
    """Says for each pair what PNIL adds to what the suite `auto` leaves."""
    found = []
    for noisy, plain in pairs_of(groups):
        comparison = compared(noisy, plain, AUTO)
        if comparison is not None:
            ours, theirs = (formatting.percent(group.summary(AUTO)) for group in (noisy, plain))
            found.append(
                f"{pair_place(noisy)}: {ours} with PNIL and {theirs} without, a difference of "
                f"{_in_runs(comparison)}, {'' if comparison.significant else 'not '}significant."
            )
    return found


def pair_place(group: Group) -> str:
    """Names what the rows with and without PNIL share: the images, the radius, the attack."""
    return f"{formatting.setting(group.records[0])}, {group.attack.upper()}"


def place(group: Group) -> str:
    """Names a row: the images, the radius, the training."""
    return f"{formatting.setting(group.records[0])}, {formatting.model(group.attack, group.pnil)}"


def hidden_gradients(groups: list[Group]) -> list[str]:
    """Says where SPSA, which needs no gradients, surely leaves less than PGD, which does."""
    return [
        f"{place(group)}: SPSA leaves {formatting.percent(group.summary('spsa'))}, "
        f"PGD {formatting.percent(group.summary('pgd'))}."
        for group in groups
        if group.surely_lower("spsa", "pgd")
    ]


def collapses(groups: Sequence[Group]) -> list[str]:
    """Says in how many runs the guard saw catastrophic overfitting."""
    return _counted(groups, lambda record: bool(record["training"]["guard_events"]))


def helpless(groups: Sequence[Group]) -> list[str]:
    """Says how many runs PGD leaves no more than guessing would: their interval reaches there.

    The guard reports the loss of robustness, and says nothing of a run that never had any.
    """
    return _counted(groups, lambda record: record["evaluations"]["pgd"]["pgd"]["low"] <= GUESSING)


def _counted(groups: Sequence[Group], has: Callable[[dict[str, Any]], bool]) -> list[str]:
    counts = [(group, sum(map(has, group.records))) for group in groups]
    return [f"{place(g)}: {count} of {len(g.records)} runs." for g, count in counts if count]
