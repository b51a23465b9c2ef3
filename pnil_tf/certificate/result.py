"""What a certificate came to, as Python sees it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from pnil_tf import html
from pnil_tf.certificate import bounds
from pnil_tf.certificate.output import ARRAYS, REPORT, RESULTS, refuse_foreign
from pnil_tf.certificate.proofs import Proofs
from pnil_tf.certificate.report import HEADS, SIDES, rows, sentence, side_rows
from pnil_tf.certificate.withdrawn import refuse_withdrawn
from pnil_tf.evaluation.saved import SavedResults
from pnil_tf.evaluation.statistics import Interval, wilson
from pnil_tf.evaluation.summary import text_table
from pnil_tf.validation import is_number, require, require_one_of
from pnil_tf.vocabulary import NORMS


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Certificate(SavedResults):
    """Robustness that is proved; `print` shows it as a table, a notebook as a page's part.

    What it says of single images is in the order in which they were given.

    Args:
        folder: Where its files lie.
        results: The content of its `certificate.json`.
        keeper: What deletes the folder when nobody holds the certificate any more.
    """

    _what = ("certificate", "a certificate")
    _files = (ARRAYS, REPORT, RESULTS)

    @staticmethod
    def _refuse_foreign(folder: Path) -> None:
        refuse_foreign(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Certificate:
        """As `SavedResults.load`; one that was withdrawn is refused."""
        refuse_withdrawn(Path(folder))
        return super().load(folder)

    @property
    def certified_accuracy(self) -> Interval:
        """Share of images proved right within epsilon, with its 95 % interval over images.

        Without labels: of images whose answer is proved to stay.
        """
        return Interval.of(self.results["certified"])

    @property
    def single_draw_accuracy(self) -> Interval:
        """The least accuracy of single draws within epsilon, under any attack blind to the draw."""
        return Interval.of(self.results["certified"]["single_draw"])

    def accuracy_at(self, epsilon: float) -> Interval:
        """The certified accuracy at another radius, >= 0, in the certificate's norm.

        Raises:
            UserError: If it is none.
        """
        require(
            is_number(epsilon) and epsilon >= 0,
            f"epsilon must be a number of at least 0. Received: {epsilon!r}.",
        )
        right = self.answers != -1
        if self.labels is not None:
            right = right & (self.answers == self.labels)
        return wilson(right & (self.radii(self.results["settings"]["norm"]) > epsilon))

    @property
    def selected(self) -> np.ndarray:
        """The class of each image that its own draws chose, int `(n,)`, proved or not."""
        return self._of("selected")

    @property
    def hits(self) -> np.ndarray:
        """How many of the other draws answered with it, int `(n,)`."""
        return self._of("hits")

    @property
    def answers(self) -> np.ndarray:
        """The class proved to be the majority's at each image, int `(n,)`; -1 where it abstains."""
        return self._of("answer")

    def radii(self, norm: str = "linf") -> np.ndarray:
        """The radius in which each answer stays, float64 `(n,)`, a share of the pixel range.

        Args:
            norm: `"linf"` or `"l2"`; both are known.

        Raises:
            UserError: For another norm.
        """
        require_one_of("norm", norm, NORMS)
        return self._of(f"radius_{norm}")

    @property
    def single_draws(self) -> np.ndarray:
        """The least share of draws that keep the answer within epsilon, float64 `(n,)`."""
        return self._of("single_draw")

    @property
    def labels(self) -> np.ndarray | None:
        """The classes of the images, int `(n,)`; `None` where answers are proved to stay alone."""
        return self._of("labels") if "labels" in self.recorded else None

    @property
    def image_digests(self) -> np.ndarray | None:
        """The sha256 of each image, uint8 `(n, 32)`; `None` where an earlier version wrote none."""
        return self._of("image_sha256") if "image_sha256" in self.recorded else None

    @property
    def mark(self) -> dict[str, str | None]:
        """By what an evaluation's both sides name it.

        `certificate`, its folder, `None` for one that vanishes, and `certificate_arrays`, the
        sha256 of its arrays.
        """
        folder = None if self.keeper is not None else str(self.folder.absolute())
        return {
            "certificate": folder,
            "certificate_arrays": self.results["arrays"]["sha256"],
        }

    def proofs(self) -> Proofs:
        """What is proved of each image, in the order of `recorded`.

        Of single draws, where the noise moves with the image, another radius than the
        certificate's own would need the model: there the bound is a weaker one.
        """
        arrays, settings = self.recorded, self.results["settings"]
        sensitivity = self.results["noise"]["sensitivity"]
        radius = {norm: arrays[f"radius_{norm}"] for norm in NORMS}

        def single_draw(epsilon: float) -> np.ndarray:
            if epsilon == settings["epsilon"]:
                return arrays["single_draw"]
            if sensitivity is not None:
                return bounds.fixed_single_draw(arrays["share"], epsilon, sensitivity)
            stays = np.where(radius[settings["norm"]] > epsilon, 0.5, 0.0)
            wider = epsilon > settings["epsilon"]
            return stays if wider else np.maximum(stays, arrays["single_draw"])

        return Proofs(
            selected=arrays["selected"],
            answer=arrays["answer"],
            hits=arrays["hits"],
            share=arrays["share"],
            radius=radius,
            single_draw=single_draw,
        )

    def _of(self, name: str) -> np.ndarray:
        return self._in_order(self.recorded[name])

    def __repr__(self) -> str:
        settings = self.results["settings"]
        return (
            f"<Certificate: {self.certified_accuracy.value:.1%} proved at {settings['epsilon']:.4g}"
            f", {settings['norm']}>"
        )

    def __str__(self) -> str:
        tables = [text_table(heads, cells) for heads, cells in self._tables()]
        return "\n".join(["\n\n".join(tables), sentence(self.results)])

    def _repr_html_(self) -> str:
        words = f"<p>{html.escape(sentence(self.results))}</p>"
        return words + "".join(html.table(heads, cells) for heads, cells in self._tables())

    def _tables(self) -> list[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
        sides = side_rows(self.results)
        return [(HEADS, rows(self.results)), *([(SIDES, sides)] if sides else [])]
