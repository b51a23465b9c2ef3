"""What a user can ask of a certificate, checked as soon as it is said. Imports no TensorFlow."""

from __future__ import annotations

import dataclasses
import secrets
from typing import Any

from pnil_tf.contract.pixel_range import check_epsilon
from pnil_tf.errors import argument
from pnil_tf.validation import (
    check_types,
    require,
    require_count,
    require_one_of,
    require_positive,
)
from pnil_tf.vocabulary import NORMS

_MULTIPLES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
_MAX_SEED = 2**63
_MOST_DRAWS = 10**9  # they are counted in 32 bits, up to the end of a pass
_MOST_AT_ONCE = 10_000  # more make no pass quicker, and its graph larger


@dataclasses.dataclass(frozen=True)
class CertificateSettings:
    """Settings of one certificate.

    Args:
        epsilon: Radius of the ball, > 0, a share of the pixel range.
        norm: `"linf"` or `"l2"`.
        images: How many images, the first ones.
        draws: Draws of the noise that bound each image's share. They bound the radius, too: with
            n of them no share above `alpha ** (1 / n)` is proved.
        selection_draws: Other draws, which choose the class that the share is about.
        alpha: For each image, the proof is wrong with no more than this probability.
        batch_size: Most draws in one pass, fewer where images and network are large; it bounds the
            memory and changes no figure.
        epsilons: Radii of the curve; empty for multiples of `epsilon`.
        seed: Every draw follows from it, from 0 to 2**63 - 1; `None` for the system's entropy. A
            model that was chosen by proofs from the same draws would look better than it is.

    Raises:
        UserError: If a value cannot be right, whatever the model.
    """

    epsilon: float
    norm: str = "linf"
    images: int = 1000
    draws: int = 100_000
    selection_draws: int = 100
    alpha: float = 0.001
    batch_size: int = 500
    epsilons: tuple[float, ...] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        check_types(self)
        require_one_of("norm", self.norm, NORMS)
        check_epsilon(self.epsilon, self.norm)
        require_count("images", self.images)
        for name in ("draws", "selection_draws"):
            require_count(name, getattr(self, name), _MOST_DRAWS)
        require_count("batch_size", self.batch_size, _MOST_AT_ONCE)
        require(
            0.0 < self.alpha < 0.5,
            f"{argument('alpha')} is the probability of a wrong proof, between 0 and 0.5. "
            f"Received: {self.alpha!r}. Use 0.001.",
        )
        require(
            self.seed is None or 0 <= self.seed < _MAX_SEED,
            f"{argument('seed')} must lie between 0 and {_MAX_SEED - 1}. Received: {self.seed!r}.",
        )
        for radius in self.epsilons:
            if radius != 0:  # the accuracy without a step
                require_positive("epsilons", radius)
                check_epsilon(radius, self.norm, name="epsilons")

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON types."""
        return {**dataclasses.asdict(self), "epsilons": list(self.epsilons)}

    def seeded(self, begun: int | None) -> CertificateSettings:
        """The same with a seed: what was asked for, or that of what was begun, or a fresh one.

        Args:
            begun: The seed of the certificate that goes on, if one does.
        """
        if self.seed is not None:
            return self
        seed = secrets.randbelow(_MAX_SEED) if begun is None else begun
        return dataclasses.replace(self, seed=seed)

    def curve(self) -> tuple[float, ...]:
        """The radii of the curve, increasing, among them `epsilon`."""
        multiples = (self.epsilon * factor for factor in _MULTIPLES)
        chosen = self.epsilons or tuple(e for e in multiples if self.norm != "linf" or e <= 1.0)
        return tuple(sorted({*chosen, self.epsilon}))
