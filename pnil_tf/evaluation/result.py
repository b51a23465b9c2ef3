"""What an evaluation came to, as Python sees it."""

from __future__ import annotations

import dataclasses
import functools
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pnil_tf import html
from pnil_tf.contract.pixel_range import PixelRange
from pnil_tf.errors import UserError
from pnil_tf.evaluation.finding import Finding, Weight
from pnil_tf.evaluation.output import ADVERSARIAL, ARRAYS, REPORT, RESULTS, refuse_foreign
from pnil_tf.evaluation.saved import SavedResults
from pnil_tf.evaluation.statistics import Interval
from pnil_tf.evaluation.summary import HEADS, accuracies, reason, rows, text_table
from pnil_tf.files import understood

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_IMAGES_AND_LABELS = ("images", "labels")


@dataclasses.dataclass(frozen=True)
class AttackResult:
    """What one attack left.

    Args:
        name: The attack.
        accuracy: Share of right answers on its images, with the 95 % interval over images.
        images: How many images it attacked, the first ones.
        draws: Draws of the noise by which each was judged.
        seconds: What it took.
        settings: Its settings.
    """

    name: str
    accuracy: Interval
    images: int
    draws: int
    seconds: float
    settings: dict[str, Any]


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Evaluation(SavedResults):
    """An evaluation that is finished; `print` shows it as a table, a notebook as a page's part.

    Args:
        folder: Where its files lie.
        results: The content of its `results.json`.
        keeper: What deletes the folder when nobody holds the evaluation any more.
    """

    _what = ("evaluation", "an evaluation")
    _files = (ARRAYS, ADVERSARIAL, REPORT, RESULTS)

    @staticmethod
    def _refuse_foreign(folder: Path) -> None:
        refuse_foreign(folder)

    @property
    def verdict(self) -> str:
        """`"credible"`, `"doubtful"` or `"obfuscated"`: what the figure is worth."""
        return str(self.results["verdict"])

    @property
    def reason(self) -> str:
        """The verdict and the figure in one sentence."""
        return str(self.results["verdict_reason"])

    @property
    def clean_accuracy(self) -> Interval:
        """Share of right answers on unperturbed images, with its 95 % interval."""
        return Interval.of(self.results["clean"])

    @property
    def robust_accuracy(self) -> Interval:
        """Share of right answers under the strongest attack, with its 95 % interval.

        It is worth what the verdict says.
        """
        return Interval.of(self.results["effective_robustness"])

    @property
    def worst_case_accuracy(self) -> Interval:
        """The same where each image meets the attack that did it most harm."""
        return Interval.of(self.results["worst_case_per_image"])

    @property
    def attacks(self) -> dict[str, AttackResult]:
        """The attacks by name, in the order in which they were run."""
        return {
            name: AttackResult(
                name=name,
                accuracy=Interval.of(row),
                images=row["images"],
                draws=row["draws"],
                seconds=row["seconds"],
                settings=row["settings"],
            )
            for name, row in self.results["attacks"].items()
        }

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the checks say, those that failed first."""
        found = [
            Finding(**{**finding, "weight": Weight(finding["weight"])})
            for finding in self.results["findings"]
        ]
        return tuple(sorted(found, key=lambda finding: finding.passed))

    @functools.cached_property
    def adversarial(self) -> dict[str, np.ndarray]:
        """The adversarial images of each attack, and of all together as `"worst_case"`.

        They are float32 `(n, height, width, channels)` in [0, 1], whatever the model's pixels.
        Images that no attack has harmed are among them. They are in the order in which the images
        were given, of which `places` says which were taken. An attack of fewer images took the
        first `n` of those that `recorded["place"]` names.

        Raises:
            UserError: If the evaluation has not kept them: with `save_adversarial` it
                does.
        """
        file = self.folder / ADVERSARIAL
        if not file.is_file():
            raise UserError(
                f"The evaluation in {self.folder} has not kept its adversarial images. Evaluate "
                "with save_adversarial to have them."
            )
        with understood(file), np.load(file, allow_pickle=False) as arrays:
            kept = {name: arrays[name] for name in arrays if name not in _IMAGES_AND_LABELS}
        return {name: self._in_order(images) for name, images in kept.items()}

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draws the accuracies and their intervals as bars.

        Args:
            axes: Where to; by default a new figure of `matplotlib.pyplot`.

        Returns:
            The axes.
        """
        # Slow to import; only a drawing needs them.
        from matplotlib import pyplot

        from pnil_tf.evaluation.plots import draw_accuracy_bars

        figures = accuracies(self.results)
        if axes is None:
            size = (6.4, 0.8 + 0.42 * len(figures))
            axes = pyplot.subplots(figsize=size, layout="constrained")[1]
        draw_accuracy_bars(axes, figures, self.results["guessing"]["value"])
        axes.set_title(f"{self._radius}: {self.verdict}", fontsize="medium")
        return axes

    @property
    def _radius(self) -> str:
        settings = self.results["settings"]
        pixels = PixelRange.of(self.results["model"]["pixel_range"])
        return f"{settings['norm']}, epsilon {pixels.says(settings['epsilon'], settings['norm'])}"

    def __repr__(self) -> str:
        return (
            f"<Evaluation: {self.verdict}, robust accuracy {self.robust_accuracy.value:.1%}, "
            f"{self._radius}>"
        )

    def __str__(self) -> str:
        return f"{self._radius}\n{text_table(HEADS, list(rows(self.results)))}\n{self.reason}"

    def _repr_html_(self) -> str:
        words = escape(reason(self.results))
        return (
            f"<p><strong>{escape(self.verdict.capitalize())}.</strong> {words}</p>"
            f"{html.table(HEADS, rows(self.results))}"
        )
