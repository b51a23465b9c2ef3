"""What is trained and how it is evaluated, for every study and budget."""

import itertools
import json
from pathlib import Path

import pytest

from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.study.budgets import BUDGETS
from pnil_tf.study.cells import Cell, Part, cells_of
from pnil_tf.study.studies import STUDIES, jobs_of

EVERY = [
    (study, budget)
    for study, budget in itertools.product(STUDIES, BUDGETS)
    if (study, budget) != ("cifar10_madry", "smoke")
]


def test_the_papers_protocol():
    jobs = jobs_of("table1", BUDGETS["full"])
    # Six data sets at a scale, five repeats of two folds, two attacks, with and without PNIL.
    assert len(jobs) == 6 * 10 * 2 * 2
    pgd, others, _ = jobs[0].evaluations
    assert pgd.options["faithful"]
    assert (pgd.options["steps"], pgd.options["eot_samples"]) == (50, 100)
    assert (others.options["spsa_images"], others.options["spsa_samples"]) == (1000, 2048)
    assert others.options["spsa_steps"] == 100


@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS)
def test_the_strongest_suite_sees_the_first_of_the_images(budget):
    for job in jobs_of("table1", budget):
        found = {entry.name: entry for entry in job.evaluations}
        assert ("auto" in found) == bool(job.effort.auto_images)
        if "auto" in found:
            pgd, auto = found["pgd"], found["auto"]
            assert auto.epsilon == pgd.epsilon
            assert auto.options["attacks"] == ["auto"]
            assert auto.options["images"] == job.effort.auto_images <= pgd.options["images"]
            assert auto.options["eot_samples"] == job.effort.eot_samples


def test_the_decisive_budget_has_all_repeats_and_trains_cifar10_to_the_end():
    jobs = jobs_of("table1", BUDGETS["decisive"])
    cells = [job.cell for job in jobs]
    mnist = [cell for cell in cells if cell.dataset == "mnist"]
    assert {cell.epsilon for cell in mnist} == {0.3}
    assert {(cell.repeat, cell.fold) for cell in mnist} == {
        (r, f) for r in range(5) for f in (0, 1)
    }
    assert len(mnist) == 40
    cifar = [job for job in jobs if job.cell.dataset == "cifar10"]
    assert {(job.cell.epsilon, job.effort.epochs) for job in cifar} == {(0.03, 30)}
    assert {(job.cell.attack, job.cell.pnil) for job in cifar} == {
        (attack, pnil) for attack in ("rfgsm", "nfgsm") for pnil in (False, True)
    }


def test_both_scales_are_in_the_full_budget():
    radii = {}
    for part in BUDGETS["full"].parts:
        radii.setdefault(part.dataset, set()).add(part.epsilon)
    assert radii == {
        "mnist": {8 / 255, 0.3},
        "fashion_mnist": {4 / 255, 0.1},
        "cifar10": {0.03, 8 / 255},
    }


def test_a_repeat_is_complete_before_the_next_begins():
    cells = [job.cell for job in jobs_of("table1", BUDGETS["cpu"])]
    first = cells[:8]
    assert {(cell.repeat, cell.fold) for cell in first} == {(0, 0), (0, 1)}
    assert {(cell.attack, cell.pnil) for cell in first[:4]} == {
        (attack, pnil) for attack in ("rfgsm", "nfgsm") for pnil in (False, True)
    }
    assert {(cell.dataset, cell.epsilon) for cell in cells[:24]} == {("mnist", 0.3)}


@pytest.mark.parametrize(("study", "budget"), EVERY)
def test_pairs_share_seed_and_images(study, budget):
    runs = {}
    for job in jobs_of(study, BUDGETS[budget]):
        runs.setdefault((job.cell.repeat, job.cell.fold), set()).add(job.cell.seed)
    assert all(len(seeds) == 1 for seeds in runs.values())
    assert len(set.union(*runs.values())) == len(runs)


@pytest.mark.parametrize(("study", "budget"), EVERY)
def test_every_job_is_valid_and_named_once(study, budget):
    jobs = jobs_of(study, BUDGETS[budget])
    assert jobs
    assert len({job.cell.name for job in jobs}) == len(jobs)
    for job in jobs:
        assert len({entry.name for entry in job.evaluations}) == len(job.evaluations)
        for entry in job.evaluations:
            options = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.options.items()}
            EvaluationSettings(epsilon=entry.epsilon, **options)


@pytest.mark.parametrize("study", [name for name in STUDIES if name.startswith("figure")])
def test_figures_come_from_cells_of_the_table(study):
    for budget in BUDGETS.values():
        table = {job.cell for job in jobs_of("table1", budget)}
        assert {job.cell for job in jobs_of(study, budget)} <= table


def test_the_noise_starts_larger_where_the_default_can_collapse():
    sigmas = {
        (part.dataset, part.epsilon): cells_of(part)[0].pnil_sigma for part in BUDGETS["full"].parts
    }
    assert sigmas.pop(("mnist", 0.3)) == 0.37
    assert set(sigmas.values()) == {0.135}


def test_a_part_without_repeats_is_trained_on_the_predefined_split():
    cells = cells_of(Part("cifar10", 0.03, repeats=0))
    assert {(cell.repeat, cell.fold) for cell in cells} == {(None, None)}
    assert cells[0].name == "cifar10_eps0.03_rfgsm"


def test_a_cell_comes_back_from_json():
    cell = Cell("mnist", 8 / 255, "nfgsm", True, 1, 0)
    assert Cell(**json.loads(json.dumps(cell.to_json()))) == cell
    assert cell.name == "mnist_eps0.03137_nfgsm_pnil_repeat1_fold0"


@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS)
def test_a_budget_is_json(budget):
    text = json.dumps(budget.to_json())
    assert json.loads(text) == budget.to_json()


def test_the_page_on_the_study_says_what_the_budgets_are():
    page = Path(__file__).parents[2] / "docs" / "study.md"
    rows = {
        cells[1].strip(): [cell.strip() for cell in cells[2:6]]
        for line in page.read_text().splitlines()
        if len(cells := line.split("|")) == 7
    }

    def row(*fields):
        """The fields of each budget's classifiers; equal ones are said once."""
        said = []
        for budget in BUDGETS.values():
            figures = [
                ", ".join(f"{getattr(e, f):,}" for f in fields) for e in budget.efforts.values()
            ]
            said.append(" / ".join(dict.fromkeys(figures)))
        return said

    assert rows["budget"] == [f"`{name}`" for name in BUDGETS]
    assert rows["PGD: images, draws"][0] == f"{row('images', 'eot_samples')[0]} (10 steps)"
    assert rows["PGD: images, draws"][1:] == row("images", "eot_samples")[1:]
    assert rows["SPSA: images, samples, steps"] == row("spsa_images", "spsa_samples", "spsa_steps")
    assert rows["draws that judge an image"] == row("judge_draws")
    epochs = row("epochs")
    assert rows["epochs"] == [*epochs[:-1], f"{epochs[-1]}, rates from an LR range test"]
    assert rows["auto: images"] == ["none", *row("auto_images")[1:]]
    assert rows["width"] == row("width")


def test_a_part_may_have_an_effort_of_its_own():
    budget = BUDGETS["cpu"]
    efforts = {
        (job.cell.dataset, job.cell.epsilon): job.effort for job in jobs_of("table1", budget)
    }
    assert efforts["mnist", 0.3] == budget.efforts["small_cnn"]
    assert efforts["mnist", 8 / 255] == budget.efforts["once"]
    assert efforts["cifar10", 0.03] == budget.efforts["resnet11"]
