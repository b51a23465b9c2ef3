"""Table 1 from planted runs."""

import pytest
from planted import record

from pnil_tf.study.groups import PAPER_ATTACKS, compared, groups_of, pairs_of
from pnil_tf.study.paper import published
from pnil_tf.study.table import (
    agreement,
    collapses,
    comparisons,
    helpless,
    hidden_gradients,
    markdown,
    place,
    table_1,
    under_suite,
)

RUNS = [(repeat, fold) for repeat in range(3) for fold in range(2)]


def planted(with_pnil, without, scatter=0.01):
    """Six runs of each kind; each list of figures is (pgd, spsa)."""
    shifts = [scatter * (i - 2.5) for i in range(6)]
    return [
        record(pnil, run, pgd + shift * (1 if pnil else -1), spsa)
        for pnil, (pgd, spsa) in ((False, without), (True, with_pnil))
        for run, shift in zip(RUNS, shifts, strict=True)
    ]


def test_min_is_the_attack_with_the_lowest_mean():
    plain, noisy = groups_of(planted((0.6, 0.8), (0.5, 0.2)))
    assert not plain.pnil
    assert plain.weakest(PAPER_ATTACKS) == "spsa"
    assert noisy.weakest(PAPER_ATTACKS) == "pgd"
    assert plain.summary("spsa")[0] == pytest.approx(0.2)
    assert plain.summary("pgd_strong") is None


def test_min_compares_means_and_not_single_runs():
    # SPSA is lowest in one run, PGD on average.
    cells = [record(False, (0, 0), 0.1, 0.9), record(False, (0, 1), 0.5, 0.3)]
    (group,) = groups_of(cells)
    assert group.weakest(PAPER_ATTACKS) == "pgd"


def test_an_attack_on_fewer_images_counts_only_where_it_is_surely_lower():
    (group,) = groups_of([record(False, (0, 0), 0.5, 0.45)])  # 100 images, and 40
    assert group.weakest(PAPER_ATTACKS) == "pgd"
    assert hidden_gradients([group]) == []
    (group,) = groups_of([record(False, (0, 0), 0.5, 0.25)])
    assert group.weakest(PAPER_ATTACKS) == "spsa"
    assert len(hidden_gradients([group])) == 1


def test_an_image_that_every_repeat_attacks_counts_once():
    # 6 runs on 2 x 40 images: 0.42 of 80 may be 0.5 by chance, 0.42 of 240 would not.
    (group,) = groups_of([record(False, run, 0.5, 0.42) for run in RUNS])
    assert group.weakest(PAPER_ATTACKS) == "pgd"
    (group,) = groups_of([record(False, run, 0.5, 0.3) for run in RUNS])
    assert group.weakest(PAPER_ATTACKS) == "spsa"


def test_clean_accuracy_is_that_of_all_images():
    (group,) = groups_of([record(False, (0, 0), 0.5, 0.5)])
    assert group.summary("clean") == (0.98, None)


def test_pairs_are_compared_run_by_run():
    cells = planted((0.6, 0.8), (0.5, 0.2))[:-1]  # one run with PNIL is missing
    ((noisy, plain),) = pairs_of(groups_of(cells))
    comparison = compared(noisy, plain, "min")
    assert comparison.runs == 5
    assert comparison.mean == pytest.approx(0.6 - 0.005 - 0.2)


def test_a_sure_difference_gets_a_star_on_the_higher_side():
    heads, rows = table_1(groups_of(planted((0.6, 0.8), (0.5, 0.2), scatter=0.001)))
    column = heads.index("Min")
    plain, noisy = (row[column] for row in rows)
    assert noisy.endswith("*")
    assert not plain.endswith("*")
    assert not any("*" in row[heads.index("clean")] for row in rows)
    _, rows = table_1(groups_of(planted((0.6, 0.8), (0.59, 0.8))))
    assert not any("*" in cell for row in rows for cell in row)


def test_the_papers_figures_stand_beside_ours():
    heads, rows = table_1(groups_of(planted((0.6, 0.8), (0.5, 0.2))))
    assert rows[0][-1] == "98 ± 0 / 23 ± 36 / 54 ± 11 / 23 ± 36"
    assert rows[1][-1] == "98 ± 0 / 77 ± 1 / 60 ± 4 / 60 ± 4"
    assert len({len(row) for row in (heads, *rows)}) == 1


def test_the_papers_min_is_its_lower_column():
    for dataset in ("mnist", "fashion_mnist", "cifar10"):
        for attack in ("rfgsm", "nfgsm"):
            for pnil in (False, True):
                row = published(dataset, attack, pnil)
                assert row["min"] == min(row["pgd"], row["spsa"])
    assert published("emnist", "rfgsm", True) is None


@pytest.mark.parametrize(
    ("with_pnil", "verdict"), [(0.9, "agrees"), (0.1, "disagrees"), (0.505, "undecided")]
)
def test_whether_it_agrees_is_computed(with_pnil, verdict):
    found = agreement(groups_of(planted((with_pnil, 0.95), (0.5, 0.9))))
    assert [key for key, lines in found.items() if lines] == [verdict]
    (line,) = found[verdict]
    assert "the paper's difference is +37" in line


def test_what_is_sure_at_5_percent_is_undecided_at_the_papers_level():
    groups = groups_of(planted((0.3, 0.95), (0.5, 0.9), scatter=0.016))
    ((noisy, plain),) = pairs_of(groups)
    comparison = compared(noisy, plain, "min")
    assert comparison.high < 0
    assert 0.003 < comparison.p < 0.05
    assert len(agreement(groups)["undecided"]) == 1
    assert not any("*" in cell for row in table_1(groups)[1] for cell in row)


def test_one_run_decides_nothing():
    cells = [record(True, (0, 0), 0.9, 0.9), record(False, (0, 0), 0.1, 0.1)]
    found = agreement(groups_of(cells))
    assert len(found["undecided"]) == 1
    _, rows = comparisons(groups_of(cells))
    (row,) = [row for row in rows if row[3] == "Min"]
    assert row[5:8] == ("+80.0", "", "none")
    assert row[-1] == "+37"


def with_suite(with_pnil, without, runs=RUNS):
    """Runs that scatter in pairs by 2 points; what `auto` leaves of them."""
    return [
        record(pnil, run, 0.9, 0.9, strong=0.8, auto=left + 0.01 * (i % 2) * (1 if pnil else -1))
        for pnil, left in ((False, without), (True, with_pnil))
        for i, run in enumerate(runs)
    ]


def test_the_suite_has_a_column_of_its_own():
    heads, rows = table_1(groups_of(with_suite(0.3, 0.4)))
    found = [dict(zip(heads, row, strict=True)) for row in rows]
    assert [row["auto"] for row in found] == ["39.5 ± 0.5*", "30.5 ± 0.5"]
    # Figures on the suite's own, fewer images do not reach the other columns.
    assert {(row["clean"], row["pgd_strong"]) for row in found} == {("98.0 ± 0.0", "80.0 ± 0.0")}
    assert {row["images: PGD, SPSA, auto"] for row in found} == {"200, 80, 60"}


def test_a_suite_that_has_not_come_to_every_run_counts_the_images_it_saw():
    cells = with_suite(0.3, 0.4)
    for cell in (cells[0], cells[2]):  # of the fold 0 two runs of three
        del cell["evaluations"]["auto"]
    heads, rows = table_1(groups_of(cells))
    assert {row[heads.index("images: PGD, SPSA, auto")] for row in rows} == {"200, 80, 60"}
    ((noisy, plain),) = pairs_of(groups_of(cells))
    assert compared(noisy, plain, "auto").runs == 4


def test_a_suite_s_own_attacks_are_in_no_column_of_others():
    (cell,) = with_suite(0.3, 0.4)[:1]
    del cell["evaluations"]["others"]["pgd_strong"]
    (group,) = groups_of([cell])
    assert group.summary("pgd_strong") is None


def test_a_study_without_the_suite_has_no_column_for_it():
    groups = groups_of(planted((0.6, 0.8), (0.5, 0.2)))
    heads, rows = table_1(groups)
    assert "auto" not in heads
    assert {row[heads.index("images: PGD, SPSA")] for row in rows} == {"200, 80"}
    assert not any(row[3] == "auto" for row in comparisons(groups)[1])
    assert under_suite(groups) == []


@pytest.mark.parametrize(
    ("with_pnil", "said"), [(0.3, "-9.0 (-11.0 to -7.0)"), (0.39, "+0.0 (-2.0 to +2.0)")]
)
def test_what_pnil_adds_under_the_suite_is_compared(with_pnil, said):
    groups = groups_of(with_suite(with_pnil, 0.4))
    ((noisy, plain),) = pairs_of(groups)
    comparison = compared(noisy, plain, "auto")
    (row,) = [row for row in comparisons(groups)[1] if row[3] == "auto"]
    assert comparison.mean == pytest.approx(with_pnil + 0.005 - 0.395)
    (line,) = under_suite(groups)
    assert line.startswith("MNIST, eps 0.3, NFGSM: ")
    assert f"a difference of {row[5]} points over 6 runs" in line
    assert row[5].split(" ")[0] == said.split(" ")[0]
    assert line.endswith(", significant.") == comparison.significant == (with_pnil == 0.3)


def test_hidden_gradients_and_collapses_are_named():
    cells = [
        record(False, (0, 0), 0.5, 0.2, events=[{"what": "collapse"}]),
        record(False, (0, 1), 0.5, 0.2),
        record(True, (0, 0), 0.5, 0.8),
    ]
    groups = groups_of(cells)
    (line,) = hidden_gradients(groups)
    assert "NFGSM without PNIL: SPSA leaves 20.0 ± 0.0, PGD 50.0 ± 0.0" in line
    (line,) = collapses(groups)
    assert "1 of 2 runs" in line


def test_runs_without_any_robustness_are_counted():
    cells = [record(False, (0, fold), pgd, 0.5) for fold, pgd in ((0, 0.12), (1, 0.4))]
    (line,) = helpless(groups_of(cells))  # the figures' intervals are 0.1 to either side
    assert line == "MNIST, eps 0.3, NFGSM without PNIL: 1 of 2 runs."


def test_runs_on_the_predefined_split_are_another_table():
    cells = [record(True, (None, None), 0.5, 0.5), record(True, (0, 0), 0.7, 0.7)]
    (folds,) = groups_of(cells)
    (whole,) = groups_of(cells, cross_validated=False)
    assert folds.summary("pgd") == (0.7, None)
    assert whole.summary("pgd") == (0.5, None)


def test_unfinished_cells_are_left_out():
    cell = record(True, (0, 0), 0.5, 0.5)
    del cell["evaluations"]["others"]
    assert groups_of([cell]) == []


def test_markdown():
    assert markdown((("a", "b"), [("1", "x|y")])) == "| a | b |\n| --- | --- |\n| 1 | x\\|y |"


@pytest.mark.parametrize(("epsilon", "said"), [(8 / 255, "8/255"), (0.2, "0.2"), (1 / 3, "0.3333")])
def test_a_radius_is_said_as_everywhere_else(epsilon, said):
    groups = groups_of([record(pnil, (0, 0), 0.5, 0.5, epsilon=epsilon) for pnil in (True, False)])
    assert {row[1] for row in table_1(groups)[1]} == {said}
    assert f"eps {said}," in place(groups[0])
