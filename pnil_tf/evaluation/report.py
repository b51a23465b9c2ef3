"""The results as one HTML page that needs nothing else."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pnil_tf.attacks.registry import attack_named
from pnil_tf.contract.pixel_range import PixelRange, in_255ths, share_text
from pnil_tf.evaluation.beside import part_of_page
from pnil_tf.evaluation.glossary import WORDS, occurring, words_of_attacks
from pnil_tf.evaluation.plots import accuracy_bars, accuracy_curve, image_grid
from pnil_tf.evaluation.statistics import majority
from pnil_tf.evaluation.summary import accuracies, reason
from pnil_tf.files import write_text
from pnil_tf.html import definitions, facts, image, page, section, table, wide
from pnil_tf.progress import clock

if TYPE_CHECKING:
    from pnil_tf.evaluation.trial import Outcome, Trial

_NONE = "–"
_PICTURED = 8
_OF_NOISE = ("majority vote", "right in every draw", "sd of noise", "draws")
"""Columns that say nothing of a model that answers always alike."""

_OF_CURVES = {"pgd", "pgd_strong"}
"""Attacks whose accuracy the curves show."""

_BUDGET = (
    "attack",
    "steps",
    "restarts",
    "first step",
    "loss",
    "draws per gradient",
    "images",
    "time",
)


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
        outcomes: What each attack left, and each suite.
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
    settings = results["settings"]
    radius = _pixels(results).says(settings["epsilon"], settings["norm"])
    strongest = results["effective_robustness"]["attack"]
    bars = accuracy_bars(accuracies(results), results["guessing"]["value"])
    sections = [
        f'<p class="verdict {escape(results["verdict"])}"><strong>'
        f"{escape(results['verdict'].capitalize())}.</strong> "
        f"{escape(reason(results))}</p>",
        facts(_about(results, radius)),
        section(
            "Accuracy",
            image(
                bars,
                f"Bars of accuracy: {_in_words(accuracies(results))}; "
                f"guessing would reach {results['guessing']['value']:.1%}.",
            )
            + _accuracies(results),
        ),
        section("What each attack was allowed", table(_BUDGET, budgets(results))),
        section(
            f"Images under {strongest}, the strongest attack",
            "<p>Images whose answer the attack has changed come first. Above, the image; in the "
            "middle, the perturbation, drawn to the scale that stands beside it; below, the "
            "adversarial image.</p>"
            + wide(
                image(grid, f"Images, their perturbations by {strongest}, and adversarial images.")
            ),
        ),
    ]
    curve = results["epsilon_curve"]
    if len(curve) > 1:
        picture = _epsilon_curve(curve, settings["epsilon"])
        draws = min(settings["eot_samples"], settings["check_draws"])
        several = "s" if draws > 1 else ""
        of_draws = f" with {draws} draw{several}" if results["model"]["stochastic"] else ""
        title = f"Accuracy over epsilon (pgd_strong{of_draws} on {curve[0]['images']} images)"
        sections.append(section(title, image(picture, f"A curve: {_at_radii(results)}.")))
    curve = results["eot_curve"]
    if len(curve) > 1:
        picture = accuracy_curve(
            curve, "draws", "EOT draws at every step", settings["eot_samples"], log=True
        )
        points = ", ".join(f"{row['value']:.1%} at draws {row['draws']}" for row in curve)
        alt = f"A curve: {points}."
        sections.append(section("Accuracy over EOT draws (pgd)", image(picture, alt)))
    if results["noise_cells"]:
        sections.append(section("With and without noise", _cells(results["noise_cells"])))
    sections.append(part_of_page(results.get("both_sides")))
    sections.append(section("Is it real?", _findings(results["findings"])))
    ran = {row["settings"]["name"] for row in results["attacks"].values()} | _OF_CURVES
    words = occurring([*WORDS, *words_of_attacks(ran)], "\n".join(sections))
    sections.append(section("The words", definitions(words)))
    details = {
        key: results[key]
        for key in ("settings", "model", "data", "versions", "attack_seconds", "finished")
    }
    text = json.dumps(details, indent=2, ensure_ascii=False)
    sections.append(section("All settings", f"<pre>{escape(text)}</pre>"))
    return page(
        f"Robustness: {results['verdict']}",
        f"Robustness at epsilon {radius}, {settings['norm']}",
        sections,
    )


def _about(results: dict[str, Any], radius: str) -> list[tuple[str, str]]:
    model, data, settings = (results[key] for key in ("model", "data", "settings"))
    noise = "answers differ from draw to draw" if model["stochastic"] else "no noise"
    source = [str(data[key]) for key in ("name", "source_detail") if data.get(key)]
    return [
        ("model", f"{results['model_name']} ({model['kind']})"),
        (
            "what it does",
            f"{model['num_classes']} classes, {model['outputs']}, pixels in {_pixels(results)}, "
            f"{noise}",
        ),
        ("data", ", ".join(source) or str(data.get("source", "unknown"))),
        ("images", f"{results['clean']['images']}, the first of them"),
        ("epsilon", f"{radius}, in {settings['norm']}"),
        ("effort", f"{settings['effort']}, {clock(results['process_seconds'])}"),
        ("date", results["finished"].replace("T", " ").replace("+00:00", " UTC")),
        ("seed", str(settings["seed"])),
        ("versions", ", ".join(f"{name} {found}" for name, found in results["versions"].items())),
    ]


def budgets(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """Returns for each attack what it was allowed to do, the cells below `_BUDGET`."""
    rows: list[tuple[str, ...]] = []
    for name, row in results["attacks"].items():
        settings = row["settings"]
        targets = settings.get("targets")
        ignored = attack_named(settings["name"]).ignores
        step = share_text(settings["step_size"], beside=results["settings"]["epsilon"])
        rows.append(
            (
                name,
                f"{settings['steps']:,}",
                f"{settings['restarts']}" + (f" for each of {targets} targets" if targets else ""),
                _NONE if "step_size" in ignored else step,
                _NONE if "loss" in ignored else _loss(settings),
                _draws(settings),
                f"{row['images']}",
                clock(row["seconds"]),
            )
        )
    return rows


def _loss(settings: dict[str, Any]) -> str:
    own = attack_named(settings["name"]).loss
    if own is not None and not settings.get("targeted"):
        return own
    return settings["loss"].replace("_", "-").replace("+", ", ")


def _draws(settings: dict[str, Any]) -> str:
    if "samples" in settings:
        draws = settings["eot"]["draws"]
        return f"{settings['samples']:,} points" + (f", {draws} draws each" if draws > 1 else "")
    ignored = attack_named(settings["name"]).ignores
    return _NONE if "eot" in ignored else f"{settings['eot']['draws']}"


def _pixels(results: dict[str, Any]) -> PixelRange:
    return PixelRange.of(results["model"]["pixel_range"])


def _in_words(rows: list[tuple[str, dict[str, Any]]]) -> str:
    return ", ".join(f"{name} {row['value']:.1%}" for name, row in rows)


def _epsilon_curve(curve: list[dict[str, Any]], epsilon: float) -> bytes:
    """The axis says radii as the page does: n/255, or shares of the range."""
    if not in_255ths(epsilon):
        return accuracy_curve(curve, "epsilon", "epsilon", epsilon)
    points = [{**row, "epsilon": row["epsilon"] * 255} for row in curve]
    return accuracy_curve(points, "epsilon", "epsilon (n/255)", epsilon * 255)


def _at_radii(results: dict[str, Any]) -> str:
    beside = results["settings"]["epsilon"]
    return ", ".join(
        f"{row['value']:.1%} at epsilon {share_text(row['epsilon'], beside)}"
        for row in results["epsilon_curve"]
    )


def _accuracies(results: dict[str, Any]) -> str:
    rows = [
        {
            "": name,
            "accuracy (95 % interval)": _figure(row),
            "majority vote": _figure(row["majority_vote"]),
            "right in every draw": _figure(row["worst_draw"]),
            "sd of noise": f"{row['noise_std']:.2%}",
            "images": f"{row['images']}",
            "draws": f"{row['draws']}",
            "images/s": f"{rate:.2f}" if (rate := row.get("images_per_second")) else "",
        }
        for name, row in accuracies(results)
    ]
    of_noise = () if results["model"]["stochastic"] else _OF_NOISE
    heads = [head for head in rows[0] if head not in of_noise]
    return table(heads, [[row[head] for head in heads] for row in rows])


def _cells(cells: dict[str, Any]) -> str:
    rows = [
        (what, *(_figure(cells[name]) if name in cells else "" for name in names))
        for what, names in (
            ("no attack", (None, "clean_without", "clean_frozen")),
            ("attack sees the noise", ("with_with", "with_without", None)),
            ("attack sees no noise", ("without_with", "without_without", None)),
            ("attack knows one draw", ("frozen_with", None, "frozen_frozen")),
        )
    ]
    heads = ("", "judged by fresh draws", "judged without noise", "judged by that one draw")
    return table(heads, [row for row in rows if any(row[1:])])


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
        for finding in sorted(findings, key=lambda finding: bool(finding["passed"]))
    ]
    return table(("check", "", "value", "threshold", "what was seen", "what to do"), rows)


def _figure(interval: dict[str, Any]) -> str:
    return f"{interval['value']:.1%} ({interval['low']:.1%} to {interval['high']:.1%})"


def _grid(
    trial: Trial, clean_votes: np.ndarray, strongest: Outcome, class_names: list[str] | None
) -> bytes:
    """Images of which the answer flipped come first: they are what there is to see."""
    before, after = clean_votes[: len(strongest.share)], strongest.votes
    labels = trial.y[: len(after)]
    flipped = (majority(before) == labels) & (majority(after) != labels)
    # Of those the ones that lost most, and of equals the first.
    chosen = np.lexsort((strongest.share - trial.share(before), ~flipped))[:_PICTURED]

    def says(votes: np.ndarray, i: int) -> str:
        answer = int(majority(votes[i : i + 1])[0])
        name = class_names[answer] if class_names and answer >= 0 else str(answer)
        return f"{name} ({(votes[i] == trial.y[i]).mean():.0%} right)"

    captions = [(says(clean_votes, i), says(strongest.votes, i)) for i in chosen]
    pixels = trial.target.pixel_range
    width = 255.0 if pixels.is_unit else pixels.width
    return image_grid(trial.x[chosen], strongest.adversarial[chosen], captions, width)
