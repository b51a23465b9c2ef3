"""A reason is given only where the runs give cause for it."""

import pytest
from planted import record

from pnil_tf.study.groups import groups_of
from pnil_tf.study.reasons import reasons

RUNS = [(repeat, fold) for repeat in range(5) for fold in range(2)]
COLLAPSE = [{"what": "collapse", "epoch": 5}]
RECOVERY = [*COLLAPSE, {"what": "recovery", "epoch": 7}]


def pair(with_pnil, without, *, events_with=(), events_without=(), **others):
    """Ten runs with and ten without PNIL, each kind with one figure under both attacks."""
    return [
        record(pnil, run, value + 0.001 * run[1] * (1 + pnil), value, events=list(events), **others)
        for pnil, value, events in (
            (True, with_pnil, events_with),
            (False, without, events_without),
        )
        for run in RUNS
    ]


def first_words(cells):
    return [reason.split(":")[0] for reason in reasons(groups_of(cells))]


def test_figures_like_the_papers_need_no_reason():
    assert reasons(groups_of(pair(0.9, 0.02, events_without=COLLAPSE))) == []


def test_a_small_radius_is_one_only_beside_a_larger_one():
    small = pair(0.9, 0.95, epsilon=8 / 255)
    assert first_words(small) == []
    hard = pair(0.9, 0.01, events_without=COLLAPSE)
    (reason,) = reasons(groups_of(small + hard))
    assert reason.startswith("The radius")
    assert "MNIST, eps 8/255, NFGSM without PNIL (Min 95" in reason
    # 8/255 is not a larger radius than 0.03, but the same one written otherwise.
    cifar = {"dataset": "cifar10", "effort": {"width": 64}}
    alike = pair(0.9, 0.95, epsilon=0.03, **cifar) + pair(0.9, 0.01, epsilon=8 / 255, **cifar)
    assert first_words(alike) == []


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (pair(0.5, 0.9, attack="rfgsm"), ["The random start"]),
        (pair(0.5, 0.9, attack="rfgsm", events_without=COLLAPSE), ["The checkpoint"]),
        (pair(0.9, 0.3, events_without=COLLAPSE), ["The checkpoint"]),
        (pair(0.9, 0.3, events_without=RECOVERY), []),
        (pair(0.9, 0.3, effort={"epochs": 8}), []),
        (pair(0.2, 0.3, effort={"epochs": 8}), ["The budget"]),
        (pair(0.01, 0.3, events_with=COLLAPSE), ["The start of the noise"]),
        (pair(0.9, 0.3, strong=0.2), ["The attack"]),
        (pair(0.2, 0.3, kept=50), ["The length of the training"]),
        (pair(0.9, 0.01, kept=50), []),
    ],
)
def test_reasons_by_their_causes(cells, expected):
    assert first_words(cells) == expected


def test_the_reason_names_the_rows():
    (reason,) = reasons(groups_of(pair(0.9, 0.01, strong=0.2)))
    assert "NFGSM with PNIL (90.1 ± 0.1 against 20.0 ± 0.0)" in reason
    assert "without" not in reason
    (reason,) = reasons(groups_of(pair(0.02, 0.01, events_with=COLLAPSE)))
    assert "NFGSM with PNIL (10 of 10 runs)" in reason
    (reason,) = reasons(groups_of(pair(0.2, 0.3, effort={"width": 16, "epochs": 8})))
    assert "MNIST, eps 0.3, NFGSM (width 16 for 32, epochs 8 for 50)" in reason


def test_a_checkpoint_saved_most_of_the_runs_or_is_no_reason():
    cells = pair(0.9, 0.3, events_without=COLLAPSE)
    plain = [cell for cell in cells if not cell["cell"]["pnil"]]
    for cell in plain[:4]:
        cell["training"]["guard_events"] = RECOVERY
        cell["evaluations"]["pgd"]["pgd"]["value"] = 0.8
    (reason,) = reasons(groups_of(cells))
    assert reason.startswith("The checkpoint")
    assert "(6 of 10 runs, Min 30.0 ± 0.0)" in reason  # of those six
    plain[4]["training"]["guard_events"] = RECOVERY
    assert first_words(cells) == []


def test_a_checkpoint_from_after_the_collapse_saved_nothing():
    assert first_words(pair(0.9, 0.3, events_without=COLLAPSE, kept=6)) == []


def test_few_runs_are_a_smaller_budget():
    few = [cell for cell in pair(0.2, 0.3) if cell["cell"]["repeat"] == 0]
    few += [cell for cell in pair(0.2, 0.3, attack="rfgsm") if cell["cell"]["repeat"] == 0]
    budget, *_ = reasons(groups_of(few))
    assert budget.endswith(": MNIST, eps 0.3, NFGSM and MNIST, eps 0.3, RFGSM (runs 2 for 10).")
