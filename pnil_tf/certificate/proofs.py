"""From counts of draws to what they prove of each image."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from pnil_tf.certificate import bounds
from pnil_tf.certificate.front import FrontNoise
from pnil_tf.evaluation.statistics import wilson
from pnil_tf.vocabulary import NORMS

ABSTAINED = -1


@dataclasses.dataclass(frozen=True)
class Proofs:
    """What is proved of n images.

    Args:
        selected: int `(n,)`, the class that the selecting draws chose.
        answer: int `(n,)`, the class that is proved to be the majority's; `ABSTAINED` where none
            is.
        hits: int `(n,)`, how many of the other draws answered with the selected class.
        share: float64 `(n,)`, the lower bound of the share of such draws.
        radius: By norm, float64 `(n,)`, the radius in which the majority stays; 0 where
            abstained.
        single_draw: For any radius, float64 `(n,)`: the least share of single draws that answer
            with the selected class, whatever the step within the radius.
    """

    selected: np.ndarray
    answer: np.ndarray
    hits: np.ndarray
    share: np.ndarray
    radius: dict[str, np.ndarray]
    single_draw: Callable[[float], np.ndarray]


def proofs_of(
    front: FrontNoise,
    images: np.ndarray,
    selected: np.ndarray,
    hits: np.ndarray,
    draws: int,
    alpha: float,
    norm: str,
) -> Proofs:
    """Applies the bounds of `bounds` that are valid for the noise.

    Args:
        front: The noise.
        images: `(n, height, width, channels)` in [0, 1].
        selected: As in `Proofs`.
        hits: As in `Proofs`.
        draws: How many draws there were for each image.
        alpha: Level of each image's bound.
        norm: That of `single_draw`.
    """
    share = bounds.lower_confidence(hits, draws, alpha)
    radius, single_draw = (_fixed if front.fixed else _moving)(front, images, share, norm)
    return Proofs(
        selected=selected,
        answer=np.where(share > 0.5, selected, ABSTAINED),
        hits=hits,
        share=share,
        radius=radius,
        single_draw=single_draw,
    )


_Found = tuple[dict[str, np.ndarray], Callable[[float], np.ndarray]]


def _fixed(front: FrontNoise, images: np.ndarray, share: np.ndarray, norm: str) -> _Found:
    sigma = front.sigma(images[0])
    sensitivity = {name: bounds.sensitivity(sigma, name) for name in NORMS}
    return (
        {name: bounds.fixed_radius(share, sensitivity[name]) for name in NORMS},
        lambda epsilon: bounds.fixed_single_draw(share, epsilon, sensitivity[norm]),
    )


def _moving(front: FrontNoise, images: np.ndarray, share: np.ndarray, norm: str) -> _Found:
    slope = front.slope()

    def single_draw(epsilon: float) -> np.ndarray:
        # Image by image: all sigmas together may not fit in memory.
        moved = [bounds.divergence(epsilon, slope, front.sigma(image), norm) for image in images]
        return bounds.any_single_draw(share, np.array(moved))

    radius = {
        name: np.array(
            [
                bounds.any_radius(float(p), slope, front.sigma(image), name)
                for p, image in zip(share, images, strict=True)
            ]
        )
        for name in NORMS
    }
    return radius, single_draw


def figures(
    proofs: Proofs, labels: np.ndarray | None, radii: tuple[float, ...], norm: str
) -> dict[str, Any]:
    """What the proofs come to over the images, ready for JSON.

    Args:
        proofs: The proofs.
        labels: int `(n,)`; without them, every answer counts as right.
        radii: Radii of the curve.
        norm: Their norm.

    Returns:
        `abstained`, `majority` (right without any attack) and `curve`: at each radius the share
        of images whose majority is proved right (with its 95 % interval over images), and the
        least accuracy of single draws.
    """
    right = proofs.answer != ABSTAINED
    selected_right = np.ones(len(right), bool)
    if labels is not None:
        right, selected_right = right & (proofs.answer == labels), proofs.selected == labels
    curve = []
    for radius in radii:
        proved = right & ((proofs.radius[norm] > radius) | (radius == 0))
        single = np.where(selected_right, proofs.single_draw(radius), 0.0)
        curve.append(
            {
                "epsilon": radius,
                **wilson(proved).to_json(),
                "single_draw": wilson(single).to_json(),
            }
        )
    return {
        "abstained": float((proofs.answer == ABSTAINED).mean()),
        "majority": wilson(right).to_json(),
        "curve": curve,
    }
