"""What is proved beside what attacks left, on the same images at the same radius.

Whatever is proved holds under every attack, so an attack that leaves less shows an error: of the
mathematics, the sampler, or the judge. It is ours, and must not pass for a result.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from pnil_tf.certificate.attacked import Subject
from pnil_tf.certificate.bounds import upper_confidence
from pnil_tf.certificate.output import RESULTS
from pnil_tf.certificate.proofs import ABSTAINED, Proofs
from pnil_tf.certificate.result import Certificate
from pnil_tf.certificate.withdrawn import RefutedError, withdraw
from pnil_tf.errors import UserError
from pnil_tf.evaluation.beside import Beside, Compare
from pnil_tf.evaluation.statistics import majority, wilson
from pnil_tf.files import lock_folder, read_json

logger = logging.getLogger(__name__)

_SURE = 1e-6  # with this probability at most, chance alone lets an honest run fail a comparison
_NAMED = 20  # images that a message names
_COUNT_NEITHER = (
    "Neither the certificate nor the evaluation, finished or not, is to be relied on until it is "
    "known which of them is wrong. Please report it with the model."
)


def comparison(
    found: Certificate, attacked: Subject, epsilon: float, must_fit: bool = False
) -> Compare | None:
    """What compares a certificate with what an evaluation's attacks will have left, if they fit.

    Args:
        found: The certificate.
        attacked: What the evaluation is about.
        epsilon: Radius of its attacks, at which it is compared.
        must_fit: Whether a certificate without labels, or about another model, other images or
            another norm, is refused; the log says why it is left out otherwise.

    Returns:
        From the judge's votes to what `both_sides` returns. Where they refute it, the certificate
        is withdrawn.

    Raises:
        UserError: If it does not fit and must.
    """
    misfit = _misfit(found, attacked)
    if misfit is not None:
        sentence = f"The certificate in {found.folder} is not put beside the evaluation: {misfit}."
        if must_fit:
            raise UserError(f"{sentence} Choose another certificate, or none.")
        logger.info("%s", sentence)
        return None
    labels, settings = found.recorded["labels"], found.results["settings"]

    def compare(votes: np.ndarray) -> dict[str, Any]:
        try:
            sides = both_sides(
                found.proofs(),
                labels,
                votes[: len(labels)],
                epsilon,
                settings["norm"],
                settings["alpha"],
            )
        except RefutedError as error:
            _withdraw(found, error)
            raise
        return {**sides, **found.mark}

    return compare


def beside(found: Certificate, epsilon: float, norm: str, must_fit: bool = False) -> Beside:
    """Has an evaluation compare itself with a certificate.

    Args:
        found: The certificate.
        epsilon: The evaluation's radius.
        norm: Its norm.
        must_fit: As for `comparison`.
    """

    def look(identity: Mapping[str, Any], images: np.ndarray, labels: np.ndarray) -> Compare | None:
        return comparison(found, Subject(identity, images, labels, norm), epsilon, must_fit)

    return look


def _misfit(found: Certificate, attacked: Subject) -> str | None:
    if "labels" not in found.recorded:
        return "it was made without labels"
    settings = found.results["settings"]
    certified = Subject(
        found.results["identity"],
        found.recorded.get("image_sha256"),
        found.recorded["labels"],
        settings["norm"],
    )
    return certified.misfit(attacked)


def _withdraw(found: Certificate, error: RefutedError) -> None:
    """Withdraws a certificate, if its folder still holds it: the attacks have taken a while."""
    try:
        with lock_folder(found.folder):
            now = read_json(found.folder / RESULTS)
            if now.get("arrays") == found.results["arrays"]:
                withdraw(found.folder, now, str(error))
            else:
                logger.warning(
                    "The certificate in %s was replaced or withdrawn since it was read, and is "
                    "left as it is.",
                    found.folder,
                )
    except (OSError, UserError) as other:
        logger.warning("The certificate in %s could not be withdrawn: %s", found.folder, other)


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
        `epsilon`, and for the majority over draws and for single draws `proved` (at least) and
        `attacked` (at most), each with its interval over the n images.

    Raises:
        RefutedError: If more images contradict their proof than chance allows, or all of them
            together do.
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
        raise RefutedError(
            f"An error of ours: on {contradicted} of {count} images an attack leaves less than is "
            f"proved to be left (chance alone would explain {allowed}). They are, counted from 0 "
            f"as the files have them ('place' there says which images they were): {named}. "
            f"{_COUNT_NEITHER}"
        )
    for kind, bound in (("single draws", single), ("majorities", np.where(proved, 0.5, 0.0))):
        _refuse_contradicted_mean(kind, bound, right, alpha)
    return {
        "epsilon": epsilon,
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


def _refuse_contradicted_mean(
    kind: str, bound: np.ndarray, right: np.ndarray, alpha: float
) -> None:
    """Compares all images together, which shows what is too little to be seen on any one.

    The total of right draws of n images whose shares are at least `bound` falls below its mean no
    more often than as many flips of one coin with the mean share (Hoeffding 1956, theorem 4).
    Proofs fail, each with the probability alpha: as many as may are taken to have proved nothing,
    those that claim most.

    Args:
        kind: What is proved, for the words.
        bound: `(n,)`, the share of right draws that is proved of each image; 0 for none. A
            majority proves one half.
        right: bool `(n, draws)`.
        alpha: Level of the proofs.

    Raises:
        RefutedError: If chance explains so few right draws with less than `_SURE`.
    """
    claims = bound > 0.0
    bound, right = bound[claims], right[claims]
    failing = int(stats.binom.ppf(1.0 - _SURE / 2, len(bound), alpha)) if len(bound) else 0
    if failing >= len(bound):
        return
    least = np.sort(bound)[: len(bound) - failing].sum() / len(bound)
    if stats.binom.cdf(right.sum(), right.size, least) >= _SURE / 2:
        return
    raise RefutedError(
        f"An error of ours: on {len(bound)} images the attacks leave {right.mean():.1%} of "
        f"{right.size} draws, and {bound.mean():.1%} are proved to be left ({kind}; chance and "
        f"{failing} failed proofs do not explain it). {_COUNT_NEITHER}"
    )
