"""What attacks left in an evaluation, and whether a certificate is about the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pnil_tf.errors import UserError
from pnil_tf.evaluation.output import ARRAYS, RESULTS
from pnil_tf.files import read_json, sha256_of, understood


@dataclasses.dataclass(frozen=True)
class Subject:
    """What an evaluation or a certificate is about.

    Args:
        identity: `model` and `pixel_range`, as either's identity has them.
        images: Digests of all its images, as `digests_of` has them; `None` where earlier versions
            wrote none.
        labels: int `(n,)`, of all its images.
        norm: Norm of its radius.
    """

    identity: Mapping[str, Any]
    images: np.ndarray | None
    labels: np.ndarray
    norm: str

    def misfit(self, other: Subject) -> str | None:
        """What another one has otherwise, in words.

        Returns:
            `None` where both are about the same model, norm and images, as far as both have
            them. Their radii may differ: what is proved is known at any.
        """
        if self.norm != other.norm:
            return f"the norm is {other.norm} there and {self.norm} here"
        if self.identity["model"] != other.identity["model"]:
            return (
                "the model is another one (a saved one is known by its file, one in memory by "
                "settings, weights and answers: give the same to both)"
            )
        if self.identity["pixel_range"] != other.identity["pixel_range"]:
            return "the pixel range is another one"
        count = min(len(self.labels), len(other.labels))
        if not np.array_equal(self.labels[:count], other.labels[:count]):
            return "the labels are others"
        if self.images is None or other.images is None:
            return "an earlier version wrote one of them, and not which images it is about"
        if not np.array_equal(self.images[:count], other.images[:count]):
            return "the images are others"
        return None


@dataclasses.dataclass(frozen=True)
class Attacked:
    """What the attacks of an evaluation left of a certificate's images.

    Args:
        votes: int `(n, draws)`, the judge's on the worst adversarial image of each.
        epsilon: The attacks' radius.
        mark: `evaluation`, its folder, and `evaluation_arrays`, the sha256 of the votes' file, by
            which both sides are told from those of another evaluation, or of one done anew.
    """

    votes: np.ndarray
    epsilon: float
    mark: dict[str, str]

    def is_of(self, sides: Mapping[str, Any]) -> bool:
        """Whether both sides are about this evaluation as it is now."""
        return self.mark.items() <= sides.items()


def require_evaluation(folder: Path) -> Path:
    """Returns the file of an evaluation's results.

    Raises:
        UserError: If the folder holds none.
    """
    file = folder / RESULTS
    if not file.is_file():
        raise UserError(f"There is no evaluation at {folder}. Check the path.")
    return file


def attacked_in(folder: Path, certified: Subject) -> Attacked:
    """Reads what the attacks of an evaluation left, if a certificate is about the same.

    Args:
        folder: The evaluation's folder.
        certified: What the certificate is about.

    Raises:
        UserError: If there is no evaluation, its files are damaged, or it is about another model,
            other images or another norm.
    """
    file = require_evaluation(folder)
    results = read_json(file)
    with understood(file):
        sha256 = results["arrays"]["sha256"]
        if sha256_of(folder / ARRAYS) != sha256:
            raise UserError(
                f"{folder / ARRAYS} was damaged since the evaluation wrote it. Evaluate again."
            )
        with np.load(folder / ARRAYS, allow_pickle=False) as arrays:
            votes, labels = arrays["worst_case_votes"], arrays["labels"]
            images = arrays.get("image_sha256")
        settings = results["settings"]
        attacked = Subject(results["identity"], images, labels, settings["norm"])
        epsilon = float(settings["epsilon"])
        misfit = certified.misfit(attacked)
        if misfit is not None:
            raise UserError(
                f"The evaluation in {folder} does not fit the certificate: {misfit}. Choose "
                "another evaluation, or none."
            )
    votes = np.asarray(votes[: len(certified.labels)])
    mark = {"evaluation": str(folder.absolute()), "evaluation_arrays": sha256}
    return Attacked(votes, epsilon, mark)
