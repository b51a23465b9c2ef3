"""FAB: hyperplanes in closed form, within a range and without."""

import numpy as np
import pytest
import tensorflow as tf
from classifiers import linear, make_judge
from scipy import optimize, stats

from pnil_tf import rng
from pnil_tf.attacks.fab_t import fab_steps
from pnil_tf.attacks.hyperplane import to_hyperplane
from pnil_tf.attacks.registry import attack_settings, build_attack
from pnil_tf.attacks.trials import Stretch

W = np.random.default_rng(0).normal(size=(4, 4, 1)).astype(np.float32)


def problem(seed, pixels=12):
    generator = np.random.default_rng(seed)
    point = generator.uniform(0, 1, (1, pixels)).astype(np.float32)
    normal = generator.normal(size=(1, pixels)).astype(np.float32)
    normal[0, :2] = 0
    return point, normal


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.1, 0.8])
def test_projections_are_the_shortest(norm, seed, share):
    """Against a general solver; `share` of what the range allows has to be closed."""
    point, normal = problem(seed)
    room = np.where(normal < 0, 1 - point, point)
    gap = share * np.abs(normal * room).sum()
    way = to_hyperplane(point, normal, np.array([gap], np.float32), norm, 0.0, 1.0).numpy()
    assert gap + (normal * way).sum() == pytest.approx(0, abs=1e-5)
    assert (point + way).min() >= -1e-6
    assert (point + way).max() <= 1 + 1e-6
    pixels = point.shape[1]
    if norm == "linf":
        solved = optimize.linprog(
            np.eye(pixels + 1)[-1],
            A_ub=np.block(
                [[np.eye(pixels), -np.ones((pixels, 1))], [-np.eye(pixels), -np.ones((pixels, 1))]]
            ),
            b_ub=np.zeros(2 * pixels),
            A_eq=np.append(normal, 0)[None],
            b_eq=[-gap],
            bounds=[*zip(-point[0], 1 - point[0], strict=True), (0, None)],
        )
        assert np.abs(way).max() == pytest.approx(solved.fun, abs=1e-5)
    else:
        solved = optimize.minimize(
            lambda d: (d**2).sum(),
            np.zeros(pixels),
            jac=lambda d: 2 * d,
            bounds=[*zip(-point[0], 1 - point[0], strict=True)],
            constraints={"type": "eq", "fun": lambda d: gap + normal[0] @ d},
            method="SLSQP",
        )
        assert (way**2).sum() == pytest.approx(solved.fun, rel=1e-3)


def test_where_the_range_ends_before_the_hyperplane_all_pixels_go_to_their_edges():
    point, normal = problem(0)
    way = to_hyperplane(point, normal, np.array([1e3], np.float32), "linf", 0.0, 1.0).numpy()
    moved = (point + way)[0, 2:]
    np.testing.assert_allclose(moved, (normal[0, 2:] < 0).astype(float), atol=1e-6)


def run(predict, x, y, epsilon, norm, **options):
    settings = attack_settings(
        "fab_t", epsilon, norm=norm, **{"targets": 1, "draws": 1, "steps": 30, **options}
    )
    return build_attack(predict, settings, make_judge(predict, 1)).run(x, y, 0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_finds_the_least_distance_to_a_hyperplane(images, norm):
    """Across a boundary at a known distance, with hardly any detour."""
    y = np.ones(len(images), np.int32)
    value = (images * W).sum(axis=(1, 2, 3))
    offset = value.min() - 0.05

    def predict(x):
        return linear(W)(x) - np.array([0, offset], np.float32)

    least = (value - offset) / (np.abs(W).sum() if norm == "linf" else np.linalg.norm(W))
    moved = run(predict, images, y, 10.0, norm, check_every=0)
    flat = (moved - images).reshape(len(images), -1)
    found = np.abs(flat).max(1) if norm == "linf" else np.linalg.norm(flat, axis=1)
    inside = least < 0.25  # else the range stands in the way
    assert inside.sum() >= 3
    assert make_judge(predict, 1)(moved, y, rng.make_seed(0)).max() == 0
    assert np.all(found[inside] <= 1.06 * least[inside])
    assert np.all(found >= 0.999 * least)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_lies_beyond_the_radius_is_left_as_it_was(images, norm):
    y = np.ones(len(images), np.int32)
    moved = run(lambda x: linear(W)(x) + np.array([0, 30.0], np.float32), images, y, 0.05, norm)
    np.testing.assert_array_equal(moved, images)


def steps_taken(predict, settings, x, current, count):
    """The state after some steps from class 0 towards class 1."""
    pairs = np.tile(np.array([[0, 1]], np.int32), (len(x), 1))
    state = (x, current, np.full(len(x), np.inf))
    tensors = [tf.constant(array, tf.float32) for array in (x, *state)]
    stretch = Stretch(tensors[0], pairs, tuple(tensors[1:]), rng.make_seed(0), 0, count)
    return fab_steps(predict, settings, stretch)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_one_step_is_drawn_towards_the_original_and_back_over_the_boundary(images, norm):
    """By hand, for a boundary that is a hyperplane, from a point off the straight way to it."""
    x = images.astype(np.float64)
    aside = np.random.default_rng(1).uniform(-0.1, 0.1, x.shape)
    current, normal = x + aside, W.astype(np.float64)

    def norms(ways):
        flat = ways.reshape(len(ways), -1)
        return np.abs(flat).max(1) if norm == "linf" else np.linalg.norm(flat, axis=1)

    def to_boundary(points):
        """The shortest ways to where w . x is 0, while no pixel meets the edge of the range."""
        value = (points * normal).sum(axis=(1, 2, 3), keepdims=True) - offset
        if norm == "linf":
            return -value * np.sign(normal) / np.abs(normal).sum()
        return -value * normal / (normal**2).sum()

    offset = (x * normal).sum(axis=(1, 2, 3), keepdims=True) + 0.1
    here, there = to_boundary(current), to_boundary(x)
    share = np.minimum(norms(here) / (norms(here) + norms(there)), 0.1).reshape(-1, 1, 1, 1)
    assert share.min() < 0.1 <= share.max()
    moved = (1 - share) * (current + 1.05 * here) + share * (x + 1.05 * there)
    across = (moved * normal).sum(axis=(1, 2, 3), keepdims=True) > offset
    assert 3 <= across.sum() < 12  # a step that began on the other side comes back from there

    def predict(points):
        return linear(W)(points) - tf.constant([0, 1.0]) * offset.astype(np.float32)[:, 0, 0]

    settings = attack_settings("fab_t", 1.0, norm=norm, draws=1, targets=1, steps=1)
    found, following, nearest = steps_taken(predict, settings, images, current, 1)
    np.testing.assert_allclose(found, np.where(across, moved, x), atol=1e-5)
    back = x + 0.9 * (moved - x)
    np.testing.assert_allclose(following, np.where(across, back, moved), atol=1e-5)
    reached = np.where(across[:, 0, 0, 0], norms(moved - x), np.inf)
    np.testing.assert_allclose(nearest, reached, atol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(
    ("scale", "silent"),
    [
        (1.0, False),
        (1e22, False),  # whose square overflows
        (1.0, True),
    ],
)
def test_with_noise_the_rim_of_the_ball_is_reached(images, norm, scale, silent):
    """The boundary of the mean is near: a point just across it would fool half of the draws.

    Where the noise leaves three draws in ten without an answer, the others lead there, too.
    """
    dual = np.abs(W).sum() if norm == "linf" else np.linalg.norm(W)
    radius = 0.1 if norm == "linf" else 0.4
    value = (images * W).sum(axis=(1, 2, 3), keepdims=True)
    x = images - (value - value.mean()) * W / (W**2).sum()  # all as far from it
    offset, spread = value.mean() + 0.3 * radius * dual, 0.4 * radius * dual

    def predict(points):
        luck, other = (rng.layer_noise(tf.shape(points)[:1], training=False) for _ in range(2))
        luck *= spread
        logits = linear(W)(points) + tf.stack([tf.zeros_like(luck), luck - offset], axis=1)
        none = silent & (other > 0.5)
        return tf.where(none[:, tf.newaxis], np.nan, scale * logits)

    settings = attack_settings("fab_t", radius, norm=norm, draws=5, targets=1)
    moved = steps_taken(predict, settings, x, x, 2)[0].numpy()
    # At the rim the mean is 0.7 beyond, in units of which the noise has 0.4.
    least = 1 - stats.norm.cdf(0.7 / 0.4)
    with rng.noise_scope(rng.make_seed(1)):
        right = np.diff(predict(np.repeat(moved, 200, axis=0)), axis=1) <= 0
    assert right.mean() < least + 0.03
    gain = ((moved - x) * W).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(gain, radius * dual, rtol=0.02)
