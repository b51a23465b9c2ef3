"""What is proved beside what attacks left, on the same images at the same radius.

Whatever is proved holds under every attack, so an attack that leaves less shows an error: of the
mathematics, the sampler, or the judge. It is ours, and must not pass for a result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from pnil_tf.certificate.bounds import upper_confidence
from pnil_tf.certificate.proofs import ABSTAINED, Proofs
from pnil_tf.certificate.result import Certificate
from pnil_tf.errors import RunFailedError, UserError
from pnil_tf.evaluation.output import ARRAYS, RESULTS
from pnil_tf.evaluation.statistics import majority, wilson
from pnil_tf.files import read_json, sha256_of, understood

_SURE = 1e-6  # with this probability, chance alone stops an honest run
_NAMED = 20  # images that a message names


@dataclasses.dataclass(frozen=True)
class Subject:
    """What an evaluation or a certificate is about.

    Args:
        identity: `model`, `data` and `pixel_range`, as either's identity has them.
        labels: int `(n,)`, of all its images.
        epsilon: The radius.
        norm: Its norm.
    """

    identity: Mapping[str, Any]
    labels: np.ndarray
    epsilon: float
    norm: str

    def fits(self, other: Subject) -> bool:
        """Whether both are about the same model, radius and images, as far as both have them."""
        radius = self.norm == other.norm and np.isclose(self.epsilon, other.epsilon, rtol=1e-9)
        same = all(self.identity[key] == other.identity[key] for key in ("model", "pixel_range"))
        if not (radius and same):
            return False
        if (
            len(self.labels) == len(other.labels)
            and self.identity["data"] != other.identity["data"]
        ):
            return False
        count = min(len(self.labels), len(other.labels))
        return np.array_equal(self.labels[:count], other.labels[:count])


def attacked_votes(folder: Path, certified: Subject) -> np.ndarray | None:
    """The judge's votes on the worst adversarial image of each, if an evaluation fits.

    Args:
        folder: The evaluation's folder.
        certified: What the certificate is about.

    Returns:
        int `(n, draws)` of the first n images, or `None` where the evaluation is about another
        model, other images, or another radius.

    Raises:
        UserError: If its files are damaged.
    """
    file = folder / RESULTS
    if not file.is_file():
        return None
    results = read_json(file)
    with understood(file):
        if sha256_of(folder / ARRAYS) != results["arrays"]["sha256"]:
            raise UserError(
                f"{folder / ARRAYS} was damaged since the evaluation wrote it. Evaluate again."
            )
        with np.load(folder / ARRAYS, allow_pickle=False) as arrays:
            votes, labels = arrays["worst_case_votes"], arrays["labels"]
        settings = results["settings"]
        attacked = Subject(results["identity"], labels, settings["epsilon"], settings["norm"])
        if not attacked.fits(certified):
            return None
        return np.asarray(votes[: len(certified.labels)])


def proved_beside(
    found: Certificate, attacked: Subject, votes: np.ndarray
) -> dict[str, Any] | None:
    """Both sides, if a certificate fits an evaluation.

    Args:
        found: The certificate.
        attacked: What the evaluation is about.
        votes: int `(n, draws)`, the judge's on the worst adversarial image of each.

    Returns:
        As `both_sides`, or `None` where the certificate has no labels, or is about another model,
        other images, or another radius.

    Raises:
        RunFailedError: As `both_sides`.
    """
    settings = found.results["settings"]
    if found.labels is None:
        return None
    certified = Subject(
        found.results["identity"], found.labels, settings["epsilon"], settings["norm"]
    )
    if not certified.fits(attacked):
        return None
    votes = votes[: len(certified.labels)]
    sides = both_sides(
        found.proofs(),
        found.labels,
        votes,
        settings["epsilon"],
        settings["norm"],
        settings["alpha"],
    )
    return {**sides, "certificate": str(found.folder)}


def both_sides(
    proofs: Proofs, labels: np.ndarray, votes: np.ndarray, epsilon: float, norm: str, alpha: float
) -> dict[str, Any]:
    """Compares proofs with the votes of a judge.

    Args:
        proofs: Of at least n images.
        labels: int, of at least n images.
        votes: int `(n, draws)`, fresh draws on adversarial images within the radius.
        epsilon: The radius.
        norm: Its norm.
        alpha: Level of the proofs.

    Returns:
        For the majority over draws and for single draws, `proved` (at least) and `attacked` (at
        most), each with its interval over the n images.

    Raises:
        RunFailedError: If more images contradict their proof than chance allows.
    """
    count, draws = votes.shape
    labels, right = labels[:count], votes == labels[:count, np.newaxis]
    proved = (proofs.answer[:count] == labels) & (proofs.radius[norm][:count] > epsilon)
    sure = (proofs.selected[:count] == labels) & (proofs.answer[:count] != ABSTAINED)
    single = np.where(proofs.selected[:count] == labels, proofs.single_draw(epsilon)[:count], 0.0)
    most = upper_confidence(right.sum(axis=1), draws, alpha)
    # Of a sound proof, either bound fails with the probability alpha.
    which = np.flatnonzero(sure & (most < single))
    contradicted = len(which)
    allowed = int(stats.binom.ppf(1.0 - _SURE, count, min(2.0 * alpha, 1.0)))
    if contradicted > allowed:
        named = ", ".join(map(str, which[:_NAMED])) + (" and more" if contradicted > _NAMED else "")
        raise RunFailedError(
            f"An error of ours: on {contradicted} of {count} images an attack leaves less than is "
            f"proved to be left (chance alone would explain {allowed}). They are, counted from 0: "
            f"{named}. Neither the certificate nor the evaluation counts. Please report it with "
            "the model."
        )
    return {
        "images": count,
        "judge_draws": draws,
        "contradicted": contradicted,
        "contradicted_by_chance": allowed,
        "majority": {
            "proved": wilson(proved).to_json(),
            "attacked": wilson(majority(votes) == labels).to_json(),
        },
        "single_draw": {
            "proved": wilson(single).to_json(),
            "attacked": wilson(right.mean(axis=1)).to_json(),
        },
    }
