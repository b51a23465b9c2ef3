"""FAB: hyperplanes in closed form, within a range and without."""

import numpy as np
import pytest
from classifiers import linear, make_judge
from scipy import optimize

from pnil_tf import rng
from pnil_tf.attacks.hyperplane import to_hyperplane
from pnil_tf.attacks.registry import attack_settings, build_attack

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
