"""Table 1: our rows beside the paper's, and what separates PNIL from none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pnil_tf.study import words
from pnil_tf.study.groups import PAPER_ATTACKS, STRONG_ATTACK, Group, compared, pairs_of
from pnil_tf.study.paper import COLUMNS, published
from pnil_tf.study.statistics import ALPHA, Comparison

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""Heads and rows of plain text."""

_ALL_ATTACKS = (*PAPER_ATTACKS, STRONG_ATTACK)


def markdown(table: Table) -> str:
    """Returns a table as Markdown."""
    heads, rows = table
    return "\n".join([_line(heads), "|" + " --- |" * len(heads), *map(_line, rows)])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def table_1(groups: list[Group]) -> Table:
    """Returns the rows: accuracy in percent, mean ± standard deviation over the runs.

    A star marks the higher Min of a pair whose difference is significant at the paper's level.
    """
    heads = [*("data", "eps", "training", "runs", "clean", "SPSA", "PGD", "Min")]
    heads += ["pgd_strong", "Min with it", "the paper: clean / SPSA / PGD / Min"]
    starred: dict[tuple[str, ...], list[Group]] = {
        attacks: _better(pairs_of(groups), attacks) for attacks in (PAPER_ATTACKS, _ALL_ATTACKS)
    }
    rows = []
    for group in groups:
        found = published(group.dataset, group.attack, group.pnil)
        theirs = [f"{mean} ± {sd}" for mean, sd in (found or {}).values()]
        rows.append(
            (
                words.images(group.records[0]),
                words.radius(group.epsilon),
                words.model(group.attack, group.pnil),
                str(len(group.records)),
                *(words.percent(group.summary(name)) for name in COLUMNS[:-1]),
                _minimum(group, PAPER_ATTACKS, starred),
                words.percent(group.summary(STRONG_ATTACK)),
                _minimum(group, _ALL_ATTACKS, starred),
                " / ".join(theirs),
            )
        )
    return tuple(heads), rows


def _better(pairs: list[tuple[Group, Group]], attacks: tuple[str, ...]) -> list[Group]:
    found = []
    for noisy, plain in pairs:
        comparison = compared(noisy, plain, attacks)
        if comparison is not None and comparison.significant:
            found.append(noisy if comparison.mean > 0 else plain)
    return found


def _minimum(
    group: Group, attacks: tuple[str, ...], starred: dict[tuple[str, ...], list[Group]]
) -> str:
    star = "*" if any(group is other for other in starred[attacks]) else ""
    return words.percent(group.summary(group.weakest(attacks))) + star


def comparisons(groups: list[Group]) -> Table:
    """Returns what PNIL adds to Min, in points: with intervals, effect sizes and p-values."""
    heads = ["data", "eps", "training", "Min over", "runs", "with PNIL − without (95 % interval)"]
    heads += ["in standard deviations", "p", f"significant at {ALPHA:g}", "the paper"]
    rows: list[tuple[str, ...]] = []
    for noisy, plain in pairs_of(groups):
        theirs = paper_difference(noisy)
        for attacks in (PAPER_ATTACKS, _ALL_ATTACKS):
            comparison = compared(noisy, plain, attacks)
            if comparison is None or (STRONG_ATTACK in attacks) > (
                STRONG_ATTACK in noisy.accuracies and STRONG_ATTACK in plain.accuracies
            ):
                continue
            rows.append(
                (
                    words.images(noisy.records[0]),
                    words.radius(noisy.epsilon),
                    noisy.attack.upper(),
                    ", ".join(attacks),
                    str(comparison.runs),
                    points(comparison),
                    "" if comparison.standardized is None else f"{comparison.standardized:+.2f}",
                    words.p_value(comparison.p),
                    "yes" if comparison.significant else "no",
                    "" if theirs is None or attacks != PAPER_ATTACKS else f"{theirs:+d}",
                )
            )
    return tuple(heads), rows


def points(comparison: Comparison) -> str:
    """Writes a difference in points with its interval."""
    if comparison.p is None:
        return f"{100 * comparison.mean:+.1f}"
    ends = [f"{100 * end:+.1f}" for end in (comparison.low, comparison.high)]
    return f"{100 * comparison.mean:+.1f} ({ends[0]} to {ends[1]})"


def paper_difference(noisy: Group) -> int | None:
    """The paper's Min with PNIL minus that without, in points; `None` where it has none."""
    both = [published(noisy.dataset, noisy.attack, pnil) for pnil in (True, False)]
    if None in both:
        return None
    return both[0]["min"][0] - both[1]["min"][0]  # type: ignore[index]


def agreement(groups: list[Group]) -> dict[str, list[str]]:
    """Sorts the paper's claim, that PNIL raises Min, by what our runs say of it.

    Returns:
        Sentences under `"agrees"` (same sign, and the 95 % interval holds no 0), `"disagrees"`
        (the other sign, and no 0) and `"undecided"`.
    """
    found: dict[str, list[str]] = {"agrees": [], "disagrees": [], "undecided": []}
    for noisy, plain in pairs_of(groups):
        comparison, theirs = compared(noisy, plain, PAPER_ATTACKS), paper_difference(noisy)
        if comparison is None or theirs is None:
            continue
        sure = comparison.p is not None and not comparison.low <= 0 <= comparison.high
        same = (comparison.mean > 0) == (theirs > 0)
        verdict = ("agrees" if same else "disagrees") if sure else "undecided"
        ours = [words.percent(g.summary(g.weakest(PAPER_ATTACKS))) for g in (noisy, plain)]
        found[verdict].append(
            f"{words.setting(noisy.records[0])}, {noisy.attack.upper()}: Min is "
            f"{ours[0]} with PNIL and {ours[1]} without, a difference of {points(comparison)} "
            f"points over {comparison.runs} runs (p = {words.p_value(comparison.p)}); the paper's "
            f"difference is {theirs:+d}."
        )
    return found


def hidden_gradients(groups: list[Group]) -> list[str]:
    """Says where SPSA, which needs no gradients, leaves less than PGD, which does."""
    return [
        f"{words.setting(group.records[0])}, {words.model(group.attack, group.pnil)}: "
        f"SPSA leaves {words.percent(spsa)}, PGD {words.percent(pgd)}."
        for group in groups
        if (spsa := group.summary("spsa")) and (pgd := group.summary("pgd")) and spsa[0] < pgd[0]
    ]


def collapses(groups: Sequence[Group]) -> list[str]:
    """Says in how many runs the guard saw catastrophic overfitting."""
    found = []
    for group in groups:
        seen = sum(bool(record["training"]["guard_events"]) for record in group.records)
        if seen:
            found.append(
                f"{words.setting(group.records[0])}, "
                f"{words.model(group.attack, group.pnil)}: {seen} of {len(group.records)} runs."
            )
    return found
