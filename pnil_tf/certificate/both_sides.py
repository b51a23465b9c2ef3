"""What is proved beside what attacks left, on the same images at the same radius.

Whatever is proved holds under every attack, so an attack that leaves less shows an error: of the
mathematics, the sampler, or the judge. It is ours, and must not pass for a result.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from pnil_tf.certificate.bounds import upper_confidence
from pnil_tf.certificate.proofs import ABSTAINED, Proofs
from pnil_tf.errors import RunFailedError, UserError
from pnil_tf.evaluation.output import ARRAYS, RESULTS
from pnil_tf.evaluation.statistics import majority, wilson
from pnil_tf.files import read_json, sha256_of, understood

_SURE = 1e-6  # with this probability, chance alone stops an honest run


def attacked_votes(folder: Path, certificate: Mapping[str, Any]) -> np.ndarray | None:
    """The judge's votes on the worst adversarial image of each, if an evaluation fits.

    Args:
        folder: The evaluation's folder.
        certificate: `model`, `data` and `images` as in an evaluation's identity, `labels`,
            `epsilon`, `norm` and `pixel_range`.

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
        identity, settings = results["identity"], results["settings"]
        radius = settings["norm"] == certificate["norm"] and np.isclose(
            settings["epsilon"], certificate["epsilon"], rtol=1e-9
        )
        same = all(identity[key] == certificate[key] for key in ("model", "pixel_range"))
        if not (radius and same):
            return None
        if sha256_of(folder / ARRAYS) != results["arrays"]["sha256"]:
            raise UserError(
                f"{folder / ARRAYS} was damaged since the evaluation wrote it. Evaluate again."
            )
        with np.load(folder / ARRAYS, allow_pickle=False) as arrays:
            votes, labels = arrays["worst_case_votes"], arrays["labels"]
        count = min(len(certificate["labels"]), len(votes))
        if len(labels) == len(certificate["labels"]) and identity["data"] != certificate["data"]:
            return None
        if not np.array_equal(labels[:count], certificate["labels"][:count]):
            return None
        return np.asarray(votes[:count])


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
    contradicted = int((sure & (most < single)).sum())
    allowed = int(stats.binom.ppf(1.0 - _SURE, count, min(2.0 * alpha, 1.0)))
    if contradicted > allowed:
        raise RunFailedError(
            f"An error of ours: on {contradicted} of {count} images an attack leaves less than is "
            f"proved to be left (chance alone would explain {allowed}). Neither the certificate "
            "nor the evaluation counts. Please report it with the model."
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
