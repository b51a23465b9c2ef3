"""Square Attack: a random search over patches, which needs no gradient and hardly any luck.

Andriushchenko et al. 2020, "Square Attack: a query-efficient black-box adversarial attack via
random search". Every query changes a square of the perturbation and keeps the change if the
margin has grown.

On a stochastic model the candidate and the point that it would replace are compared over the
same draws, and from time to time the draws are renewed and the kept point is judged again: what
was kept by luck does not stay.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.attacks.attack import Attack, Kind, Wishes, gradient_draws
from pnil_tf.attacks.ball import box
from pnil_tf.attacks.eot import EOT, Loss, Predict, eot_loss
from pnil_tf.attacks.losses import as_judged, attack_loss, told
from pnil_tf.attacks.search import Search, State
from pnil_tf.attacks.settings import AttackSettings
from pnil_tf.attacks.trials import Stretch, graph
from pnil_tf.errors import UserError
from pnil_tf.tensors import Images, PerImage, Scalar, Seed, Shape, Tensor
from pnil_tf.validation import is_number

_QUERIES = 5000
_MOST_DRAWS = 10
_RENEWED_EVERY = 50
# Queries after which the patch's area is halved, as the authors' code has them.
_HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_TILES = 5  # along each side, of the start in l2
_TINY = 1e-12
# Shares of the queries after which hopeless images are given up: each time they have doubled.
_LOOKS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)


@dataclasses.dataclass(frozen=True)
class SquareSettings(AttackSettings):
    """Settings of `square`; `steps` are its queries, `eot` the evaluations of each.

    Args:
        area: Share of the image that the first patches cover.
        renew_every: Queries for which the same draws are used.
        patience: An image is given up where its margin would have to grow faster than until
            now by more than this factor: what it gained while the queries doubled, for each
            time that they still can double. 0 gives none up.
    """

    area: float = 0.8
    renew_every: int = _RENEWED_EVERY
    patience: float = 0.0

    def check(self) -> None:
        """Refuses what makes no patch."""
        super().check()
        self._require_count("renew_every")
        self._require_positive("area")
        if not is_number(self.patience) or self.patience < 0:
            raise UserError(f"Square needs patience >= 0. Received: {self.patience!r}.")
        if self.area > 1:
            raise UserError(
                f"A patch covers a share of the image, at most 1. Received: {self.area}."
            )


def sides(height: int, width: int, settings: SquareSettings) -> tuple[tuple[int, int], ...]:
    """Returns `(first query, side in pixels)` of each size of patch, the first from query 0.

    That of AutoAttack: the authors' schedule for 10,000 queries as it stands, of which 5,000 see
    the first part. Fewer queries shrink it in proportion, so that they pass the same sizes. (The
    authors' Square by itself stretches the whole of it over any number of queries instead.)
    """
    scale = min(settings.steps / _QUERIES, 1.0)
    found = []
    for halvings, after in enumerate((0, *_HALVED_AFTER)):
        side = round(math.sqrt(settings.area / 2**halvings * height * width))
        if settings.norm == "linf":
            side = max(side, 1)
        else:  # a patch has two halves around a middle, so its side is odd
            side = max(side, 3)
            side += 1 - side % 2
        found.append((int(after * scale), min(side, height, width)))
    return tuple(found)


def _side_at(i: Scalar, schedule: tuple[tuple[int, int], ...]) -> tuple[Scalar, Scalar]:
    """The patch's number in the schedule and its side, at query `i`."""
    begins = tf.constant([first for first, _ in schedule[1:]], tf.int32)
    number = tf.reduce_sum(tf.cast(i > begins, tf.int32))
    return number, tf.gather(tf.constant([side for _, side in schedule], tf.int32), number)


def _corner(shape: Shape, side: Scalar, seed: Seed) -> tuple[Tensor, Tensor]:
    """Row and column `(batch,)` of the upper left corner of a patch that fits into the image."""
    uniform = tf.random.stateless_uniform([2, shape[0]], seed, alg="philox")
    room = tf.cast(shape[1:3] - side + 1, tf.float32)[:, tf.newaxis]
    corner = tf.cast(uniform * room, tf.int32)
    return corner[0], corner[1]


def _within(corner: tuple[Tensor, Tensor], side: Scalar, height: int, width: int) -> Tensor:
    """Whether a pixel belongs to the patch, bool `(batch, height, width, 1)`."""
    row, column = (start[:, tf.newaxis] for start in corner)
    rows, columns = tf.range(height), tf.range(width)
    down = (rows >= row) & (rows < row + side)
    across = (columns >= column) & (columns < column + side)
    return (down[:, :, tf.newaxis] & across[:, tf.newaxis, :])[..., tf.newaxis]


def _coins(shape: Shape, seed: Seed) -> Tensor:
    """Fair coins, bool."""
    return tf.random.stateless_uniform(shape, seed, alg="philox") < 0.5


class _Corners:
    """The search in l_inf, all of whose points are corners of the box: pixels as low, or high."""

    def __init__(self, x: Images, settings: SquareSettings) -> None:
        self._low, self._high = box(x, settings.epsilon, settings.clip_min, settings.clip_max)
        self._shape, (_, self._height, self._width, self._channels) = tf.shape(x), x.shape
        self._schedule = sides(self._height, self._width, settings)

    def start(self, seed: Seed) -> Images:
        """Vertical stripes."""
        coins = _coins([self._shape[0], 1, self._width, self._channels], seed)
        return tf.where(coins, self._high, self._low)

    def candidate(self, i: Scalar, best: Images, seed: Seed) -> Images:
        """The best point with a patch in which every channel is low, or high."""
        _, side = _side_at(i, self._schedule)
        corner = _corner(self._shape, side, rng.fold(seed, 0))
        patch = _within(corner, side, self._height, self._width)
        coins = _coins([self._shape[0], 1, 1, self._channels], rng.fold(seed, 1))
        return tf.where(patch, tf.where(coins, self._high, self._low), best)


class _Bumps:
    """The search in l2: a patch gets a pair of bumps, and the norm of another patch to spend."""

    def __init__(self, x: Images, settings: SquareSettings) -> None:
        self._x, self._settings = x, settings
        self._shape, (_, self._height, self._width, self._channels) = tf.shape(x), x.shape
        self._schedule = sides(self._height, self._width, settings)
        largest = max(side for _, side in self._schedule)
        shapes = [_framed(_pair_of_bumps(side), largest) for _, side in self._schedule]
        self._shapes = tf.constant(np.stack(shapes), tf.float32)

    def start(self, seed: Seed) -> Images:
        """Pairs of bumps side by side, of random sign."""
        size = min(self._height, self._width) // _TILES
        down, across = (self._height // max(size, 1), self._width // max(size, 1))
        if size < 2:  # no room for bumps: the pixels themselves
            size, down, across = 1, self._height, self._width
        tile = _pair_of_bumps(size) if size > 1 else np.ones((1, 1), np.float32)
        coins = _coins([self._shape[0], down, across, self._channels], seed)
        signs = tf.where(coins, 1.0, -1.0)
        grown = tf.repeat(tf.repeat(signs, size, axis=1), size, axis=2)
        pattern = tf.constant(np.tile(tile, (down, across))[..., np.newaxis], tf.float32)
        rest_down, rest_across = self._height - down * size, self._width - across * size
        room = [
            [0, 0],
            [rest_down // 2, rest_down - rest_down // 2],
            [rest_across // 2, rest_across - rest_across // 2],
            [0, 0],
        ]
        return self._at_the_rim(tf.pad(grown * pattern, room))

    def candidate(self, i: Scalar, best: Images, seed: Seed) -> Images:
        """The best point with new bumps in one patch and nothing left in another."""
        number, side = _side_at(i, self._schedule)
        size = (self._height, self._width)
        corner = _corner(self._shape, side, rng.fold(seed, 0))
        patch = tf.cast(_within(corner, side, *size), tf.float32)
        other = tf.cast(
            _within(_corner(self._shape, side, rng.fold(seed, 1)), side, *size), tf.float32
        )
        offset = best - self._x
        coins = _coins([self._shape[0], 1, 1, self._channels], rng.fold(seed, 2))
        turned = _coins([], rng.fold(seed, 3))
        bumps = self._placed(number, corner, turned) * tf.where(coins, 1.0, -1.0)
        here = offset * patch
        fresh = _unit(bumps + _unit(here))
        unused = tf.maximum(
            self._settings.epsilon**2 - tf.reduce_sum(offset**2, [1, 2, 3], keepdims=True), 0.0
        )
        spent = tf.reduce_sum((offset * tf.maximum(patch, other)) ** 2, [1, 2], keepdims=True)
        fresh *= tf.sqrt(unused / self._channels + spent)
        return self._at_the_rim(offset * (1 - tf.maximum(patch, other)) + fresh)

    def _placed(self, number: Scalar, corner: tuple[Tensor, Tensor], turned: Tensor) -> Images:
        """The bumps of the schedule's patch `number` at each image's corner."""
        shape = tf.gather(self._shapes, number)
        shape = tf.cond(turned, lambda: tf.transpose(shape), lambda: shape)
        last = self._shapes.shape[1] - 1
        rows, columns = (
            tf.clip_by_value(tf.range(size) - start[:, tf.newaxis] + 1, 0, last)
            for size, start in zip((self._height, self._width), corner, strict=True)
        )
        placed = tf.gather(tf.gather(shape, rows), columns, axis=2, batch_dims=1)
        return placed[..., tf.newaxis]

    def _at_the_rim(self, offset: Images) -> Images:
        norm = tf.sqrt(tf.reduce_sum(offset**2, [1, 2, 3], keepdims=True))
        moved = self._x + self._settings.epsilon * offset / (norm + _TINY)
        return tf.clip_by_value(moved, self._settings.clip_min, self._settings.clip_max)


def _unit(images: Images) -> Images:
    """Each channel of each image at l2 norm 1; zeros stay zeros."""
    return images / (tf.sqrt(tf.reduce_sum(images**2, [1, 2], keepdims=True)) + _TINY)


def _bump(height: int, width: int) -> np.ndarray[Any, Any]:
    """Nested rectangles around the middle, each outer one lower (section 3 of the paper)."""
    bump = np.zeros((height, width))
    row, column = height // 2, width // 2
    for ring in range(max(height, width) // 2 + 1):
        rows = slice(max(row - ring, 0), row + ring + 1)
        columns = slice(max(column - ring, 0), column + ring + 1)
        bump[rows, columns] += 1 / (ring + 1) ** 2
    return bump / np.linalg.norm(bump)


def _pair_of_bumps(side: int) -> np.ndarray[Any, Any]:
    """One bump up and one down, one above the other, `(side, side)` of l2 norm 1."""
    upper = _bump(side // 2, side) if side > 1 else np.zeros((0, side))
    pair = np.concatenate([upper, -_bump(side - side // 2, side)])
    return (pair / np.linalg.norm(pair)).astype(np.float32)


def _framed(patch: np.ndarray[Any, Any], largest: int) -> np.ndarray[Any, Any]:
    """The patch with zeros around, at least one on every side."""
    rest = largest - len(patch) + 1
    return np.pad(patch, ((1, rest), (1, rest)))


def square_steps(
    predict: Predict,
    loss: Loss,
    settings: SquareSettings,
    stretch: Stretch,
) -> State:
    """Makes the queries of a stretch; query 0 is the start itself.

    Args:
        predict: The classifier; no gradient is asked of it.
        loss: Loss per example that the attack makes large.
        settings: The attack's settings.
        stretch: What to do. The state: the best points, their losses `(batch,)`, those losses
            when the queries were half or less, and 1 for each image that is given up.
    """
    x, y, state, seed, first, count = stretch
    space = _Corners(x, settings) if settings.norm == "linf" else _Bumps(x, settings)

    def body(i: Scalar, best: Images, value: PerImage) -> tuple[Scalar, Images, PerImage]:
        renewed = i % settings.renew_every == 0
        candidate = tf.cond(
            renewed, lambda: best, lambda: space.candidate(i, best, rng.fold(rng.fold(seed, 0), i))
        )
        candidate.set_shape(x.shape)
        draws_seed = rng.fold(rng.fold(seed, 1), i // settings.renew_every)
        means = eot_loss(predict, told(loss), candidate, y, draws_seed, settings.eot)
        found = as_judged(means, settings.targeted)
        better = renewed | (found > value)
        best = tf.where(better[:, tf.newaxis, tf.newaxis, tf.newaxis], candidate, best)
        return i + 1, best, tf.where(better, found, value)

    best, value, earlier, hopeless = state
    _, best, value = tf.while_loop(
        lambda i, *_: i < first + count, body, (first, best, value), parallel_iterations=1
    )
    if settings.patience:
        end = first + count
        for share in _LOOKS:
            query = int(share * settings.steps)
            here = (first < query) & (query <= end)
            far = -value > settings.patience * (value - earlier) * math.log2(1 / share)
            hopeless = tf.where(here & far & (earlier > -np.inf), 1.0, hopeless)
            earlier = tf.where(here, value, earlier)
    return best, value, earlier, hopeless


def _defaults(wishes: Wishes) -> dict[str, Any]:
    steps = wishes.steps or _QUERIES
    return {
        "steps": steps,
        "step_size": wishes.epsilon,
        "loss": "margin",
        "check_every": 100,
        # Without noise there is nothing to judge again.
        "renew_every": _RENEWED_EVERY if wishes.stochastic else steps,
    }


def _draws(faithful: bool) -> EOT:
    return dataclasses.replace(gradient_draws(faithful), draws=_MOST_DRAWS)


def _build(predict: Predict, settings: SquareSettings) -> Search:
    loss = attack_loss(settings.loss, settings.targeted)

    def steps(stretch: Stretch) -> State:
        return square_steps(predict, loss, settings, stretch)

    compiled = graph(steps)

    def start(trial: int, x: Images, known: State, seed: Seed) -> State:
        del trial, known
        if x.ndim != 4:
            raise UserError(
                "Square changes patches of images (n, height, width, channels). "
                f"Received: shape {x.shape}."
            )
        images = tf.constant(x)
        space = _Corners(images, settings) if settings.norm == "linf" else _Bumps(images, settings)
        zeros = np.zeros(len(x), np.float32)
        return space.start(seed), zeros, zeros - np.inf, zeros

    return Search(
        settings.restarts,
        settings.steps,
        settings.max_evaluations_in_flight // settings.eot.chunk,
        settings.max_evaluations_in_flight,
        start,
        lambda trial, *arguments: compiled(*arguments),
        given_up=lambda state: state[3] > 0,
    )


ATTACK = Attack(
    kind=Kind.GRADIENT_FREE,
    defaults=_defaults,
    build=_build,
    settings=SquareSettings,
    eot=_draws,
    most_draws=_MOST_DRAWS,
    options={"draws": "eot_samples"},
    ignores=frozenset({"step_size", "eot"}),
    floors={"steps": 1000, "images": 50},
)
