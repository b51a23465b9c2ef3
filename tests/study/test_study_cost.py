"""The predicted time, in closed form from planted rates."""

import dataclasses

import pytest

from pnil_tf.study.budgets import BUDGETS
from pnil_tf.study.cost import Rates, kind_of, predicted_seconds
from pnil_tf.study.studies import jobs_of

FAST = 1e12


def jobs():
    return jobs_of("table1", BUDGETS["cpu"])


def test_training_costs_images_over_their_rate():
    job = dataclasses.replace(jobs()[0], evaluations=())
    rates = Rates(trained=1000.0, gradients=FAST, evaluations=FAST, overhead=5.0)
    # Ten epochs of a half of 60,000 images.
    assert predicted_seconds(job, rates) == pytest.approx(5 + 300)


def test_attacks_cost_their_gradients_and_evaluations():
    plain, noisy = (job for job in jobs()[:2])
    assert not plain.cell.pnil
    assert noisy.cell.pnil
    pgd = noisy.evaluations[0]
    rates = Rates(trained=FAST, gradients=1000.0, evaluations=FAST, overhead=0.0)
    training = predicted_seconds(dataclasses.replace(noisy, evaluations=()), rates)
    # 500 images, 50 steps, 20 draws.
    only_pgd = dataclasses.replace(noisy, evaluations=(pgd,))
    assert predicted_seconds(only_pgd, rates) - training == pytest.approx(500)
    rates = Rates(trained=FAST, gradients=FAST, evaluations=1e4, overhead=0.0)
    # 40 images, 100 steps, 2,048 evaluations.
    assert predicted_seconds(plain, rates) == pytest.approx(40 * 100 * 2048 / 1e4)


def test_multi_step_training_costs_more():
    madry = jobs_of("cifar10_madry", BUDGETS["cpu"])
    one_step, seven_steps = (dataclasses.replace(job, evaluations=()) for job in madry)
    rates = Rates(trained=100.0, gradients=FAST, evaluations=FAST, overhead=0.0)
    assert predicted_seconds(one_step, rates) == pytest.approx(8 * 50_000 / 100)
    assert predicted_seconds(seven_steps, rates) == pytest.approx(4 * 8 * 50_000 / 100)


def test_every_kind_of_classifier_is_measured_once():
    assert {kind_of(job) for job in jobs()} == {("small_cnn", 16), ("resnet11", 16)}
