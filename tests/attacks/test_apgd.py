"""APGD: its checkpoints and rule of steps in closed form, and linear models of every size."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from classifiers import NoisyLinear, linear, make_judge, second_logit

from pnil_tf import rng
from pnil_tf.attacks.apgd import checkpoints, climb, climb_from
from pnil_tf.attacks.losses import scale_free_margin, targeted_dlr, wrong
from pnil_tf.attacks.registry import attack_settings, build_attack
from pnil_tf.attacks.trials import Stretch
from pnil_tf.errors import UserError

EPS = 0.1
W = np.random.default_rng(0).normal(size=(4, 4, 1)).astype(np.float32)


def many_classes(classes, seed=1):
    """Linear logits of several classes."""
    weights = np.random.default_rng(seed).normal(size=(16, classes)).astype(np.float32)
    return lambda x: tf.reshape(x, [-1, 16]) @ weights, weights


def run(name, predict, x, y, **options):
    settings = attack_settings(name, EPS, **{"draws": 1, "check_every": 0, **options})
    return build_attack(predict, settings, make_judge(predict, 1)).run(x, y, 0)


def test_checkpoints_are_the_papers():
    assert checkpoints(100) == (0, 22, 41, 57, 70, 80, 87, 93, 99)


@pytest.mark.parametrize("steps", [1, 2, 5, 10])
def test_few_steps_have_checkpoints_too(steps):
    points = checkpoints(steps)
    assert list(points) == sorted(set(points))
    assert points[-1] <= steps


@pytest.mark.parametrize("name", ["apgd_ce", "apgd_dlr", "apgd_t"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_reaches_the_best_perturbation_of_a_linear_model(images, labels, name, norm):
    options = {"targets": 1} if name == "apgd_t" else {}
    moved = run(name, linear(W), images, labels, norm=norm, steps=20, **options)
    best = EPS * (np.sign(W) if norm == "linf" else W / np.linalg.norm(W))
    gain = ((moved - images) * W).sum(axis=(1, 2, 3)) / (best * W).sum()
    np.testing.assert_allclose(gain, 1.0, atol=2e-3)


@pytest.mark.parametrize("classes", [2, 3, 4, 6])
def test_a_target_is_approached_as_far_as_a_linear_model_lets(images, classes):
    """The targeted loss has the gap of two logits on top; of linear ones the corner is known."""
    predict, weights = many_classes(classes)
    y = tf.argmax(predict(images), axis=1, output_type=tf.int32).numpy()
    moved = run("apgd_t", predict, images, y, targets=1, steps=30)
    left = make_judge(predict, 1)(moved, y, rng.make_seed(0))
    reach = {}
    for target in range(classes):
        direction = np.sign(weights[:, target] - weights[np.arange(16)[:, None], y].T)
        corner = images + EPS * direction.reshape(images.shape)
        reach[target] = make_judge(predict, 1)(corner, y, rng.make_seed(0))
    first = tf.argsort(predict(images), axis=1, direction="DESCENDING")[:, 1].numpy()
    assert np.all(left <= np.choose(first, [reach[t] for t in range(classes)]))


def test_few_classes_have_losses_of_their_own():
    two = tf.constant([[1.0, 3.0], [2.0, -1.0]])
    pairs = tf.constant([[0, 1], [0, 1]])
    np.testing.assert_allclose(scale_free_margin(pairs[:, 0], two), [2.0, -3.0])
    np.testing.assert_allclose(targeted_dlr(pairs, two), [2.0, -3.0])
    three = tf.constant([[3.0, 1.0, 0.0]])
    np.testing.assert_allclose(targeted_dlr(pairs[:1], three), [-2.0 / 3.0], rtol=1e-6)
    four = tf.constant([[4.0, 2.0, 1.0, 0.0]])
    np.testing.assert_allclose(targeted_dlr(pairs[:1], four), [-2.0 / 3.5], rtol=1e-6)


def steps_taken(loss, steps=100):
    """The step's length after each look, for a loss that follows a plan whatever the image."""
    x = tf.fill([1, 4, 4, 1], 0.5)
    settings = attack_settings("apgd_ce", EPS, steps=steps, draws=1)
    number = tf.Variable(0)

    def planned(labels, logits):
        value = loss(tf.cast(number.assign_add(1) - 1, tf.float32))
        return value + 0.0 * tf.reduce_sum(logits, axis=1)

    state = climb_from(x, settings, rng.make_seed(0))
    lengths = []
    for i in range(steps):
        y, seed = tf.zeros(1, tf.int32), rng.make_seed(0)
        state = climb(linear(W), planned, wrong, settings, Stretch(x, y, state, seed, i, 1))
        lengths.append(state[10].numpy()[0] / EPS)
    return lengths


def test_steps_stay_long_while_the_loss_rises():
    assert set(steps_taken(lambda i: i, 45)) == {2.0}


def test_steps_are_halved_at_checkpoints_where_the_loss_does_not_rise_often_enough():
    lengths = steps_taken(lambda i: tf.math.floormod(i, 2.0))
    at = [i for i in range(1, 100) if lengths[i] < lengths[i - 1]]
    assert at == [22, 41, 57, 70, 80, 87, 93, 99]
    assert lengths[-1] == pytest.approx(2 / 2**8)


def test_a_search_without_a_new_best_is_halved_at_every_other_checkpoint():
    """It rises at every step, but below the best: halved where it was not the last time."""
    lengths = steps_taken(lambda i: tf.where(i < 1, 1000.0, i))
    at = [i for i in range(1, 100) if lengths[i] < lengths[i - 1]]
    # The first move falls; of the 22 to the first checkpoint 21 rise, so it is not halved there.
    assert at == [41, 70, 87, 99]


def ascended(value, slope, x, start, norm, steps):
    """The points of algorithm 1 of Croce and Hein (2020), in NumPy, for one image.

    The next move is three quarters of a projected step and a quarter of the last move. Where, at
    a checkpoint, fewer than three quarters of the moves since the last one rose, or neither the
    step was halved there nor a better point found since, the step is halved and the best point
    taken up.
    """

    def inside(point):
        way = point - x
        if norm == "linf":
            return x + np.clip(way, -EPS, EPS)
        return x + way * min(1, EPS / np.linalg.norm(way))

    def step_up(point, length):
        way = slope(point)
        return length * (np.sign(way) if norm == "linf" else way / np.linalg.norm(way))

    points, previous, current = [], start, start
    best, most, last = start, value(start), value(start)
    length, rises, most_before, halved_before, since = 2 * EPS, 0, most, True, 0
    for moves in range(steps):
        if moves:
            now = value(current)
            rises += now > last
            best, most, last = (current, now, now) if now > most else (best, most, now)
            if moves in checkpoints(steps):
                halve = rises < 0.75 * (moves - since) or (
                    not halved_before and most <= most_before
                )
                if halve:
                    length, current = length / 2, best
                halved_before, most_before, rises, since = halve, most, 0, moves
        target = inside(current + step_up(current, length))
        share = 0.75 if moves else 1.0
        moved = current + share * (target - current) + (1 - share) * (current - previous)
        previous, current = current, inside(moved)
        points.append(current)
    return points


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_follows_the_published_algorithm_point_by_point(images, norm):
    """On a curved loss, whose top lies inside the ball: steps are halved, best points taken up."""
    generator = np.random.default_rng(4)
    top = images[0] + generator.uniform(-0.05, 0.05, W.shape)
    curves = generator.uniform(0.2, 3.0, W.shape)

    def predict(x):
        value = -tf.reduce_sum(
            curves.astype(np.float32) * (x - top.astype(np.float32)) ** 2, [1, 2, 3]
        )
        return tf.stack([tf.zeros_like(value), value], axis=1)

    x, y, seed = tf.constant(images[:1]), tf.zeros(1, tf.int32), rng.make_seed(0)
    settings = attack_settings("apgd_ce", EPS, norm=norm, steps=20, draws=1)
    state = climb_from(x, settings, seed)
    expected = ascended(
        lambda point: -(curves * (point - top) ** 2).sum(),
        lambda point: -2 * curves * (point - top),
        images[0].astype(np.float64),
        state[3].numpy()[0].astype(np.float64),
        norm,
        20,
    )
    for i, point in enumerate(expected):
        state = climb(predict, second_logit, wrong, settings, Stretch(x, y, state, seed, i, 1))
        np.testing.assert_allclose(state[3].numpy()[0], point, atol=2e-5, err_msg=f"move {i}")


def test_a_pause_changes_nothing(images, labels):
    def safe(x):
        return linear(W)(x) + tf.constant([100.0, 0.0])

    whole = run("apgd_ce", safe, images, labels, steps=25)
    paused = run("apgd_ce", safe, images, labels, steps=25, check_every=7)
    np.testing.assert_allclose(whole, paused, atol=1e-5)


def test_hands_over_the_point_that_fools_not_the_last_one():
    """The fourth point fools the model, whatever losses come later."""
    x = tf.fill([2, 4, 4, 1], 0.5)
    settings = attack_settings("apgd_ce", EPS, steps=8, draws=1)
    number = tf.Variable(0)

    def fourth(labels, logits):
        return tf.cast(tf.fill(tf.shape(labels), number == 3), tf.float32)

    def rising(labels, logits):
        return linear_loss(labels, logits) + tf.cast(number, tf.float32)

    def linear_loss(labels, logits):
        return logits[:, 1]

    state, points = climb_from(x, settings, rng.make_seed(0)), []
    for i in range(9):
        number.assign(i)
        points.append(state[3].numpy())
        y, seed = tf.zeros(2, tf.int32), rng.make_seed(0)
        state = climb(linear(W), rising, fourth, settings, Stretch(x, y, state, seed, i, 1))
    np.testing.assert_array_equal(state[0], points[3])


def test_noise_is_averaged(images, labels):
    model = NoisyLinear()
    moved = run("apgd_dlr", model, images, labels, draws=20, steps=20)
    gain = ((moved - images) * model.w).sum(axis=(1, 2, 3)) / (EPS * np.abs(model.w).sum())
    assert gain.mean() > 0.9


@pytest.mark.parametrize(
    ("wrongly", "said"),
    [({"targets": 0}, "targets >= 1"), ({"order": "size"}, "ordered"), ({"targeted": True}, "own")],
)
def test_targets_that_make_no_sense_are_refused(wrongly, said):
    with pytest.raises(UserError, match=said.replace("own", "chooses its targets itself")):
        attack_settings("apgd_t", EPS, **wrongly)


def test_one_graph_does_for_any_number_of_images(images, labels):
    traced = []

    def predict(x):
        traced.append(x.shape)
        return linear(W)(x)

    settings = attack_settings("apgd_ce", EPS, steps=4, draws=1, check_every=0)
    attack = build_attack(predict, dataclasses.replace(settings), make_judge(linear(W), 1))
    attack.run(images, labels, 0)
    once = len(traced)
    for count in (5, 7, 3):
        attack.run(images[:count], labels[:count], 0)
    assert len(traced) == once
