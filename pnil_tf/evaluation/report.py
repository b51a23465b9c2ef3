"""The results as one HTML page that needs nothing else."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pnil_tf.contract.pixel_range import PixelRange
from pnil_tf.evaluation.plots import accuracy_bars, accuracy_curve, image_grid
from pnil_tf.evaluation.statistics import majority
from pnil_tf.files import write_text
from pnil_tf.html import image, page, section, table

if TYPE_CHECKING:
    from pnil_tf.evaluation.trial import Outcome, Trial

_PICTURED = 8


def write_report(
    file: Path,
    results: dict[str, Any],
    trial: Trial,
    clean_votes: np.ndarray,
    outcomes: dict[str, Outcome],
) -> None:
    """Writes the page.

    Args:
        file: The file to write.
        results: The content of `results.json`.
        trial: The target's images and labels.
        clean_votes: `(n, draws)`, what the model says of the unperturbed images.
        outcomes: What each attack left.
    """
    strongest = outcomes[results["effective_robustness"]["attack"]]
    grid = _grid(trial, clean_votes, strongest, results["data"].get("class_names"))
    write_text(file, render(results, grid))


def render(results: dict[str, Any], grid: bytes) -> str:
    """Returns the page's HTML.

    Args:
        results: The content of `results.json`.
        grid: PNG of clean, perturbed and adversarial images.
    """
    epsilon = results["settings"]["epsilon"]
    sections = [
        f'<p class="verdict {escape(results["verdict"])}"><strong>'
        f"{escape(results['verdict'].capitalize())}.</strong> "
        f"{escape(results['verdict_reason'])}</p>",
        section(
            "Accuracy",
            image(accuracy_bars(_rows(results), results["guessing"]["value"]))
            + _accuracies(results),
        ),
        section(
            f"Images under {results['effective_robustness']['attack']}, the strongest attack",
            image(grid),
        ),
    ]
    if len(results["epsilon_curve"]) > 1:
        picture = accuracy_curve(results["epsilon_curve"], "epsilon", "epsilon", epsilon)
        settings = results["settings"]
        draws = min(settings["eot_samples"], settings["check_draws"])
        of_draws = f" with {draws} draws" if results["model"]["stochastic"] else ""
        images = results["epsilon_curve"][0]["images"]
        title = f"Accuracy over epsilon (pgd_strong{of_draws} on {images} images)"
        sections.append(section(title, image(picture)))
    if len(results["eot_curve"]) > 1:
        picture = accuracy_curve(
            results["eot_curve"],
            "draws",
            "EOT draws at every step",
            results["settings"]["eot_samples"],
            log=True,
        )
        sections.append(section("Accuracy over EOT draws (pgd)", image(picture)))
    if results["noise_cells"]:
        sections.append(section("With and without noise", _cells(results["noise_cells"])))
    sections.append(section("Is it real?", _findings(results["findings"])))
    details = {
        key: results[key]
        for key in ("settings", "model", "data", "versions", "attack_seconds", "finished")
    }
    text = json.dumps(details, indent=2, ensure_ascii=False)
    sections.append(section("How it was measured", f"<pre>{escape(text)}</pre>"))
    return page(
        f"Robustness: {results['verdict']}",
        f"Robustness at epsilon {PixelRange.of(results['model']['pixel_range']).says(epsilon)}, "
        f"{results['settings']['norm']}",
        sections,
    )


def _rows(results: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        ("clean", results["clean"]),
        *results["attacks"].items(),
        ("effective robustness", results["effective_robustness"]),
        ("worst case", results["worst_case_per_image"]),
    ]


def _accuracies(results: dict[str, Any]) -> str:
    rows = []
    for name, row in _rows(results):
        rate = row.get("images_per_second")
        rows.append(
            (
                name,
                _figure(row),
                _figure(row["majority_vote"]),
                _figure(row["worst_draw"]),
                f"{row['noise_std']:.2%}",
                f"{row['images']}",
                f"{row['draws']}",
                f"{rate:.2f}" if rate else "",
            )
        )
    heads = (
        "",
        "accuracy (95 % interval)",
        "majority vote",
        "right in every draw",
        "sd of noise",
        "images",
        "draws",
        "images/s",
    )
    return table(heads, rows)


def _cells(cells: dict[str, Any]) -> str:
    rows = [
        (what, *(_figure(cells[name]) if name else "" for name in names))
        for what, names in (
            ("no attack", (None, "clean_without", "clean_frozen")),
            ("attack sees the noise", ("with_with", "with_without", None)),
            ("attack sees no noise", ("without_with", "without_without", None)),
            ("attack knows one draw", ("frozen_with", None, "frozen_frozen")),
        )
    ]
    heads = ("", "judged by fresh draws", "judged without noise", "judged by that one draw")
    return table(heads, rows)


def _findings(findings: list[dict[str, Any]]) -> str:
    rows = [
        (
            finding["name"],
            "passed" if finding["passed"] else "FAILED",
            f"{finding['value']:.4g}",
            f"{finding['threshold']:.4g}",
            finding["explanation"],
            "" if finding["passed"] else finding["remedy"],
        )
        for finding in findings
    ]
    return table(("check", "", "value", "threshold", "what was seen", "what to do"), rows)


def _figure(interval: dict[str, Any]) -> str:
    return f"{interval['value']:.1%} ({interval['low']:.1%} to {interval['high']:.1%})"


def _grid(
    trial: Trial, clean_votes: np.ndarray, strongest: Outcome, class_names: list[str] | None
) -> bytes:
    """Fooled images first: they are what there is to see."""
    order = np.argsort(strongest.share - trial.share(clean_votes[: len(strongest.share)]))
    chosen = np.sort(order[:_PICTURED])

    def says(votes: np.ndarray, i: int) -> str:
        answer = int(majority(votes[i : i + 1])[0])
        name = class_names[answer] if class_names and answer >= 0 else str(answer)
        return f"{name} ({(votes[i] == trial.y[i]).mean():.0%} right)"

    captions = [(says(clean_votes, i), says(strongest.votes, i)) for i in chosen]
    return image_grid(trial.x[chosen], strongest.adversarial[chosen], captions)
