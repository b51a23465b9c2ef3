"""The attacks of training: closed forms on a linear model, balls and ranges on any."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from classifiers import NoisyLinear, linear, second_logit
from hypothesis import given, settings
from hypothesis import strategies as st

from pnil_tf import rng
from pnil_tf.attacks.eot import EOT, cross_entropy
from pnil_tf.attacks.one_step import StepAttack, craft, random_start, step_attack
from pnil_tf.errors import UserError

W = np.random.default_rng(0).normal(size=(4, 4, 1)).astype(np.float32)
EPS = 0.1


def run(attack, x, predict=None, seed=0, loss=second_logit, **options):
    y = tf.zeros(len(x), tf.int32)
    predict = predict or linear(W)
    return craft(predict, loss, tf.constant(x), y, rng.make_seed(seed), attack, **options).numpy()


def test_fgsm_on_a_linear_model_is_the_best_perturbation(images):
    moved = run(step_attack("fgsm", EPS), images)
    np.testing.assert_allclose(moved, images + EPS * np.sign(W), atol=1e-6)


def test_fgsm_in_l2_goes_along_the_gradient(images):
    moved = run(step_attack("fgsm", EPS, norm="l2"), images)
    np.testing.assert_allclose(moved, images + EPS * W / np.linalg.norm(W), atol=1e-6)


def test_pgd_on_a_linear_model_reaches_the_corner(images):
    moved = run(step_attack("pgd-10", EPS), images)
    np.testing.assert_allclose(moved, images + EPS * np.sign(W), atol=1e-6)


def test_nfgsm_is_its_own_start_plus_a_full_step(images):
    attack = step_attack("nfgsm", EPS)
    start = random_start(images.shape, rng.fold(rng.make_seed(0), 1), attack)
    moved = run(attack, images)
    np.testing.assert_allclose(moved, images + start + EPS * np.sign(W), atol=1e-6)
    # The ball is around the start: from x, many pixels are further away than epsilon.
    assert np.mean(np.abs(moved - images) > EPS * 1.01) > 0.4
    assert np.abs(moved - images).max() <= 2 * EPS + 1e-6


def test_rfgsm_steps_beyond_and_is_projected_to_the_ball_of_x(images):
    attack = step_attack("rfgsm", EPS)
    assert attack.step_size == pytest.approx(1.2 * EPS)
    start = random_start(images.shape, rng.fold(rng.make_seed(0), 1), attack)
    moved = run(attack, images)
    expected = images + np.clip(start + 1.2 * EPS * np.sign(W), -EPS, EPS)
    np.testing.assert_allclose(moved, expected, atol=1e-6)


def test_r_plus_fgsm_starts_at_a_corner_and_needs_no_projection(images):
    moved = run(step_attack("r+fgsm", EPS), images)
    offsets = np.unique(np.round(moved - images, 5))
    np.testing.assert_allclose(offsets, [-EPS, 0, EPS], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "norm"),
    [("liet", "linf"), *itertools.product(["r+fgsm", "rfgsm", "n-fgsm", "pgd-3"], ["linf", "l2"])],
)
def test_a_scaled_attack_is_the_attack_of_the_scaled_radius(images, name, norm):
    signs = tf.ones(images.shape) if name == "liet" else None
    options = {"predict": NoisyLinear(), "loss": cross_entropy, "signs": signs}
    small = run(step_attack(name, 0.25 * EPS, norm=norm), images, **options)
    scaled = run(step_attack(name, EPS, norm=norm), images, scale=tf.constant(0.25), **options)
    np.testing.assert_allclose(scaled, small, atol=1e-6)
    assert np.abs(small - images).max() > 0


def test_start_is_not_clipped_unless_asked():
    x = np.zeros((500, 4, 4, 1), np.float32)
    flat = lambda x: tf.zeros((len(x), 2))  # noqa: E731 - no gradient, so what is left is the start
    starts = []

    def predict(x):
        starts.append(x)
        return flat(x)

    run(step_attack("rfgsm", EPS), x, predict)
    run(step_attack("rfgsm", EPS, clip_start=True), x, predict)
    assert np.mean(starts[0] < 0) == pytest.approx(0.5, abs=0.05)
    assert np.min(starts[1]) == 0


NAMES = ["fgsm", "r+fgsm", "rfgsm", "nfgsm", "n-fgsm", "pgd-3"]
REACH = {"nfgsm": 2.0, "n-fgsm": 3.0}  # in epsilons, where the ball is around the start


@settings(max_examples=12, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    norm=st.sampled_from(["linf", "l2"]),
    epsilon=st.floats(1e-3, 2.0),
    seed=st.integers(0, 2**62),
    level=st.floats(0, 1),
)
def test_images_stay_in_range_and_ball(name, norm, epsilon, seed, level):
    x = np.full((3, 4, 4, 1), level, np.float32)
    moved = run(
        step_attack(name, epsilon, norm=norm, eot=EOT(2)), x, NoisyLinear(), seed, cross_entropy
    )
    assert moved.min() >= 0
    assert moved.max() <= 1
    flat = (moved - x).reshape(3, -1)
    distance = np.abs(flat).max(1) if norm == "linf" else np.linalg.norm(flat, axis=1)
    assert distance.max() <= REACH.get(name, 1.0) * epsilon * (1 + 1e-4) + 1e-6


@settings(max_examples=6, deadline=None)
@given(chunk=st.integers(1, 5), antithetic=st.booleans(), seed=st.integers(0, 2**62))
def test_chunks_of_draws_do_not_change_the_image(chunk, antithetic, seed):
    x = np.full((2, 4, 4, 1), 0.5, np.float32)
    together, apart = (
        run(
            step_attack("rfgsm", EPS, norm="l2", eot=EOT(5, size, antithetic)),
            x,
            NoisyLinear(),
            seed,
            cross_entropy,
        )
        for size in (chunk, 1)
    )
    np.testing.assert_allclose(together, apart, atol=1e-5)


def test_loop_of_steps_equals_unrolled_steps(images):
    # In l2: the sign of a gradient that is all but zero may differ.
    attack = step_attack("pgd-2", EPS, norm="l2", eot=EOT(3, 2))
    model = NoisyLinear()
    unrolled = tf.function(lambda x: run_graph(attack, x, model, True), autograph=False)(images)
    looped = tf.function(lambda x: run_graph(attack, x, model, False), autograph=False)(images)
    np.testing.assert_allclose(unrolled, looped, atol=1e-5)


def run_graph(attack, x, model, unroll):
    y = tf.zeros(x.shape[0], tf.int32)
    return craft(model, cross_entropy, x, y, rng.make_seed(0), attack, unroll=unroll)


def test_same_seed_same_image_and_another_seed_another(images):
    attack = step_attack("nfgsm", EPS)
    np.testing.assert_array_equal(run(attack, images, seed=1), run(attack, images, seed=1))
    assert np.any(run(attack, images, seed=1) != run(attack, images, seed=2))


def test_gradients_that_overflow_count_as_none(images):
    def predict(x):  # of a finite value and an infinite slope
        steep = tf.sqrt(tf.reduce_sum(x - images, axis=[1, 2, 3]))
        return tf.stack([tf.zeros_like(steep), steep], axis=1)

    moved = run(step_attack("fgsm", EPS), images, predict)
    np.testing.assert_array_equal(moved, images)


def test_random_directions_in_l2_fill_the_ball():
    attack = StepAttack(EPS, EPS, start="uniform", start_size=1.0, norm="l2")
    starts = random_start((4000, 2, 1, 1), rng.make_seed(0), attack).numpy().reshape(4000, 2)
    radius = np.linalg.norm(starts, axis=1)
    assert radius.max() <= 1.0 + 1e-6
    # Uniform in a disc: E r = 2/3, E r^2 = 1/2.
    assert radius.mean() == pytest.approx(2 / 3, abs=0.02)
    assert np.square(radius).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epsilon": 0.0},
        {"epsilon": -1.0},
        {"epsilon": float("nan")},
        {"step_size": 0.0},
        {"norm": "l7"},
        {"start": "nowhere"},
        {"steps": 0},
        {"clip_min": 1.0},
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(UserError, match="Received"):
        StepAttack(**{"epsilon": 0.1, "step_size": 0.1, **wrong})


@pytest.mark.parametrize("steps", ["0", "07", "10000", "1000000", "9" * 5000])
def test_numbers_of_steps_that_nobody_wants_are_named(steps):
    with pytest.raises(UserError, match=r"from 1 to 9999 steps. Received: 'pgd-\d{1,50}'"):
        step_attack(f"pgd-{steps}", EPS)


@pytest.mark.parametrize("name", ["FGSM", "pgd-", "none", "bim"])
def test_unknown_names_are_refused(name):
    with pytest.raises(UserError, match="No attack has this name"):
        step_attack(name, EPS)
