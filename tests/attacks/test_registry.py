"""Attacks as they are run: seeds, refusals, odd classifiers."""

import numpy as np
import pytest
import tensorflow as tf
from classifiers import NoisyLinear, linear, make_judge, nan_beyond

from pnil_tf import rng
from pnil_tf.attacks.eot import EOT
from pnil_tf.attacks.registry import attack_settings, build_attack
from pnil_tf.errors import UserError
from pnil_tf.vocabulary import ATTACKS

W = np.random.default_rng(0).normal(size=(4, 4, 1)).astype(np.float32)


PLAIN = {"draws": None, "loss": "margin", "schedule": ((1.0, 1.0),)}


STEPS = {"pgd": 3, "pgd_strong": 3, "spsa": 3, "fab_t": 10, "square": 120}


def build(name, predict, **options):
    small = {"steps": STEPS[name]} if name in STEPS else {}
    small |= {"samples": 16} if name == "spsa" else {"draws": 4}
    if name == "pgd_strong":
        small["restarts"] = 1
    if name in ("apgd_t", "fab_t"):
        small["targets"] = 1  # of two classes one is left to go to
    return build_attack(
        predict, attack_settings(name, 0.1, **{**small, **options}), make_judge(predict, 4)
    )


# The gradient of a linear model has one sign everywhere, whatever the noise: attacks whose steps
# reach that far end in one corner, whatever the seed.
CORNERED = ("fgsm", "apgd_ce", "apgd_dlr", "apgd_t", "fab_t", "square")


@pytest.mark.parametrize("name", ATTACKS)
def test_the_seed_decides_and_inputs_stay_as_they_were(name, images, labels):
    before = images.copy()
    # PGD's steps are short here, or all starts would end in the same corner.
    attack = build(name, NoisyLinear(), **({"step_size": 0.01} if name == "pgd" else {}))
    first = attack.run(images, labels, 1)
    again, other = attack.run(images, labels, 1), attack.run(images, labels, 2)
    np.testing.assert_array_equal(first, again)
    if name in CORNERED:
        np.testing.assert_allclose(np.abs(first - images), 0.1, atol=1e-6)
    else:
        assert np.any(first != other)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("name", ["apgd_ce", "fab_t", "square", "spsa"])
def test_points_without_an_answer_are_handed_over(name, images, labels):
    """The judge counts NaN as wrong; a model that is right everywhere else answers so nearby."""
    start = (images * W).sum(axis=(1, 2, 3))
    limit = start.max() + 0.01 * np.abs(W).sum()
    near = start > limit - 0.05 * np.abs(W).sum()  # half of the way that the ball allows
    predict = nan_beyond(W, limit)
    options = {"square": {"steps": 200}, "spsa": {"steps": 30, "samples": 64}}.get(name, {})
    settings = attack_settings(name, 0.1, draws=1, check_every=0, **options)
    moved = build_attack(predict, settings, make_judge(predict, 1)).run(images, labels, 0)
    assert np.isfinite(moved).all()
    assert near.sum() == 5
    assert not make_judge(predict, 1)(moved, labels, rng.make_seed(0))[near].any()


@pytest.mark.parametrize("name", ["pgd", "apgd_ce", "fab_t", "spsa"])
def test_draws_without_an_answer_do_not_stop_a_search(name, images, labels):
    """Three in ten, within the network, so that their gradients are NaN whatever the loss is."""

    def predict(x):
        luck = rng.layer_noise(tf.shape(x)[:1], training=False)
        return linear(W)(x * tf.where(luck > 0.5, np.nan, 1.0)[:, None, None, None])

    if name == "spsa":
        options = {"draws": 10, "steps": 30, "samples": 64}
    else:
        options = {"eot": EOT(20, 4), "loss": "margin"}
    options |= {"targets": 1} if name == "fab_t" else {}
    options |= {"steps": 20} if name != "spsa" else {}
    settings = attack_settings(name, 0.1, check_every=0, stochastic=True, **options)
    moved = build_attack(predict, settings, make_judge(predict, 4)).run(images, labels, 0)
    gain = ((moved - images) * W).sum(axis=(1, 2, 3)) / (0.1 * np.abs(W).sum())
    assert gain.min() > 0.9


@pytest.mark.parametrize("name", ATTACKS)
def test_no_images_give_no_images(name):
    attack = build(name, linear(W))
    assert attack.run(np.zeros((0, 4, 4, 1), np.float32), np.zeros(0, int), 0).shape[0] == 0


@pytest.mark.parametrize("name", ["pgd", "pgd_strong", "fgsm"])
def test_draws_in_flight_are_bounded(name, images, labels):
    most = tf.Variable(0)

    def predict(x):
        most.assign(tf.maximum(most, tf.shape(x)[0]))
        return linear(W)(x)

    for chunk in (3, 100):
        attack = build(name, predict, eot=EOT(24, chunk), max_evaluations_in_flight=8, **PLAIN)
        attack.run(images, labels, 0)
        assert 6 <= most.numpy() <= 8
        most.assign(0)


@pytest.mark.parametrize("name", ["pgd", "pgd_strong", "fgsm"])
def test_a_black_box_with_its_own_noise_is_averaged(name, images, labels):
    """Its gradient has the right sign in 3 of 5 draws; with one draw no attack would get far."""

    def predict(x):
        return linear(W)(x * (1 + 4 * tf.random.normal(tf.shape(x))))

    attack = build(name, predict, draws=96, loss="margin", faithful=True)
    moved = attack.run(images, labels, 0)
    gain = ((moved - images) * W).sum(axis=(1, 2, 3)) / (0.1 * np.abs(W).sum())
    assert gain.mean() > 0.85


def test_settings_and_search_can_be_read():
    attack = build("pgd_strong", linear(W), restarts=3)
    assert attack.settings.name == "pgd_strong"
    assert attack.search.trials == 6


IMAGES = np.full((2, 4, 4, 1), 0.5, np.float32)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (IMAGES * 255, np.zeros(2, int), "within"),
        (IMAGES - 1, np.zeros(2, int), "within"),
        (IMAGES * np.nan, np.zeros(2, int), "finite"),
        (IMAGES.astype(int), np.zeros(2, int), "floats"),
        (IMAGES[0, 0, 0, 0], np.zeros(1, int), "floats"),
        (IMAGES, np.zeros(3, int), "one whole-number label"),
        (IMAGES, np.zeros(2), "one whole-number label"),
    ],
)
def test_bad_images_or_labels_are_refused_before_any_work(x, y, message):
    with pytest.raises(UserError, match=message):
        build("pgd", linear(W)).run(x, y, 0)


def test_float64_images_are_taken():
    assert build("noise", linear(W)).run(IMAGES.astype(float), np.zeros(2, int), 0).shape == (
        IMAGES.shape
    )
