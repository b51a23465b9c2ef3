"""Attacks towards classes, on linear logits of which the distances are known."""

import numpy as np
import pytest
from classifiers import make_judge
from test_targets import WEIGHTS, predict

from pnil_tf.attacks.registry import attack_settings, build_attack
from pnil_tf.attacks.towards import Towards, most_promising, one_class

EPSILON = 0.1


def attack(name, targets=None):
    settings = attack_settings(name, EPSILON, targeted=True, draws=1, steps=20)
    runnable = build_attack(predict, settings, make_judge(predict, 1))
    return Towards(runnable, targets or most_promising(predict, settings, 5))


def interior(images):
    """Images whose balls lie within the range of the pixels, and their classes."""
    x = (0.2 + 0.6 * images).astype(np.float32)
    return x, predict(x).numpy().argmax(axis=1)


def reach(x, y, target):
    """Whether a class can gain on the label beyond its lead, `(n,)`."""
    lead = predict(x).numpy()[np.arange(len(y)), y] - predict(x).numpy()[:, target]
    return lead < EPSILON * np.abs(WEIGHTS[:, [target]].T - WEIGHTS[:, y].T).sum(axis=1)


@pytest.mark.parametrize("name", ["pgd", "pgd_strong", "apgd_ce"])
def test_of_all_classes_the_nearest_are_enough(images, name):
    x, y = interior(images)
    found = predict(attack(name).run(x, y, 0)).numpy().argmax(axis=1)
    in_reach = np.any([reach(x, y, c) & (y != c) for c in range(5)], axis=0)
    assert 0 < in_reach.mean() < 1
    np.testing.assert_array_equal(found != y, in_reach)


def test_all_images_go_to_one_class_and_those_of_it_stay(images):
    x, y = interior(images)
    y = np.where(np.arange(len(y)) == 0, 2, y)
    adversarial = attack("pgd_strong", one_class(2)).run(x, y, 0)
    np.testing.assert_array_equal(adversarial[0], x[0])
    before, after = predict(x).numpy(), predict(adversarial).numpy()
    gained = (after - before)[:, 2] - (after - before)[np.arange(len(y)), y]
    assert (gained[y != 2] > 0).all()
    assert np.abs(adversarial - x).max() <= EPSILON * (1 + 1e-5)


def test_progress_counts_every_class_that_is_tried(images):
    x, y = interior(images)
    seen = []
    attack("pgd").run(x, y, 0, lambda done, total: seen.append(done / total))
    assert seen == sorted(seen)
    assert seen[-1] <= 1
