"""The report on a study: one HTML page that needs nothing else, and the same as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from pnil_tf import html
from pnil_tf.contract.pixel_range import share_text
from pnil_tf.evaluation.glossary import WORDS, occurring
from pnil_tf.files import replacing, write_text
from pnil_tf.study import formatting
from pnil_tf.study.figures import Picture, pictures
from pnil_tf.study.groups import Group, groups_of
from pnil_tf.study.paper import MADRY
from pnil_tf.study.reasons import reasons
from pnil_tf.study.statistics import ALPHA, FOLDS_RATIO
from pnil_tf.study.studies import AUTO
from pnil_tf.study.table import (
    AGREES,
    DISAGREES,
    UNDECIDED,
    Table,
    agreement,
    collapses,
    comparisons,
    has_suite,
    helpless,
    hidden_gradients,
    markdown,
    table_1,
    under_suite,
)
from pnil_tf.training.settings import PAPER_EPSILON

HTML, MARKDOWN = "report.html", "report.md"
_FIGURES = "figures"

_HOW = (
    "Accuracy in percent, mean ± standard deviation over the runs; a run is one fold of one "
    "repeat of two-fold cross-validation. Each fold trains on its half of the predefined "
    "training images; of the two halves of the predefined test images one chooses the checkpoint "
    "(lowest adversarial validation loss) and the other is attacked. A pair with and without "
    "PNIL shares the seed and the order of the images. Each image of a stochastic model is "
    "judged by fresh draws of its noise. PGD takes the paper's steps of 2 eps / steps; SPSA "
    "attacks the first images of the same random half for every model of a fold. Min is the "
    "column of the attack with the lowest mean; SPSA, on fewer images, counts only where its 95 % "
    "interval over images lies below. The paper's text gives the radii "
    + ", ".join(
        f"{share_text(e)} for {formatting.dataset(name)}" for name, e in PAPER_EPSILON.items()
    )
    + "; its figures stand beside the other radii, too."
)
_SUITE = (
    f"{AUTO} is what this package's strongest suite leaves of the first of those images, by the "
    "worst case of each."
)
_TEST = (
    f"A star marks a difference that the corrected resampled t-test (Nadeau and Bengio) calls "
    f"significant at {ALPHA:g}, on the side of the higher figure. The test takes n2/n1 = "
    f"{FOLDS_RATIO:g}: what makes the runs depend on each other are the halves they train on."
)


def write_reports(output: Path, results: dict[str, Any]) -> None:
    """Writes `report.html`, `report.md` and `figures/*.png`.

    Args:
        output: The study's folder.
        results: The content of its `results.json`.
    """
    drawn = pictures(output, results["cells"])
    (output / _FIGURES).mkdir(exist_ok=True)
    for picture in drawn:
        with replacing(output / _FIGURES / f"{picture.name}.png") as temporary:
            temporary.write_bytes(picture.png)
    title = f"The study, budget {results['budget']['name']}"
    sections = _sections(results)
    page = [
        html.section(name, "\n".join(_as_html(part) for part in parts)) for name, parts in sections
    ]
    if drawn:
        page.append(html.section("Figures", "\n".join(_picture_as_html(p) for p in drawn)))
    words = occurring(_WORDS, "\n".join(page))
    page.append(html.section("The words", html.definitions(words)))
    page.append(html.section("Settings", f"<pre>{escape(_settings(results))}</pre>"))
    write_text(output / HTML, html.page(title, title, page))
    text = [f"# {title}"]
    for name, parts in sections:
        text += [f"## {name}", *(_as_markdown(part) for part in parts)]
    text += ["## Figures"] if drawn else []
    text += [f"![{p.caption}]({_FIGURES}/{p.name}.png)\n\n{p.caption}" for p in drawn]
    text += ["## The words", "\n".join(f"- **{term}**: {meaning}" for term, meaning in words)]
    text += ["## Settings", f"```json\n{_settings(results)}\n```"]
    write_text(output / MARKDOWN, "\n\n".join(text) + "\n")


_WORDS = (
    *WORDS,
    (
        "PNIL",
        "The layer in front of a model that adds normal noise to every pixel, whose size is "
        "learned.",
    ),
    (
        "NFGSM",
        "Training against one gradient step of length epsilon from a random start near the image.",
    ),
    (
        "RFGSM",
        "Training against one gradient step from a random start, kept within epsilon of the image.",
    ),
    ("PGD", "The attack that follows the model's gradients in many steps."),
    (
        "SPSA",
        "The attack that looks at the answers alone: hidden gradients do not stop it.",
    ),
    (
        "catastrophic overfitting",
        "A training against one step that loses what it had against attacks of many steps.",
    ),
    ("guard", "What looks for catastrophic overfitting during training."),
    (
        "p",
        "How often chance alone would show a difference at least as large.",
    ),
    ("cell, cells", "One training of the study and the attacks on it."),
)


Part = str | list[str] | Table


def _sections(results: dict[str, Any]) -> list[tuple[str, list[Part]]]:
    groups = groups_of(results["cells"])
    sections: list[tuple[str, list[Part]]] = [("What this is", [*_opening(results)])]
    if groups:
        sections.append(
            ("Table 1", [_HOW, *([_SUITE] if has_suite(groups) else []), table_1(groups), _TEST])
        )
        sections.append(("What does PNIL add?", [comparisons(groups)]))
        sections.append(("What agrees with the paper, and what does not", _verdicts(groups)))
    madry = groups_of(results["cells"], cross_validated=False)
    if madry:
        sections.append(("CIFAR-10 on the predefined split", [_madry(madry)]))
    unfinished: list[tuple[str, ...]] = [
        (record["name"], record["status"], record["error"] or "")
        for record in results["cells"]
        if record["status"] != "finished"
    ]
    if unfinished:
        sections.append(("Not finished", [(("cell", "state", "error"), unfinished)]))
    return sections


def _opening(results: dict[str, Any]) -> Iterable[str]:
    cells = results["cells"]
    finished = [record for record in cells if record["status"] == "finished"]
    seconds = sum(_seconds(record) for record in cells)
    yield (
        f"{results['budget']['says']} {len(finished)} of {len(cells)} cells are finished; "
        f"training and attacks took {formatting.duration(seconds)} (hours, minutes, seconds). "
        f"Written {results['date'][:10]}."
    )
    data = {
        f"{record['training']['data']['source_detail']}"
        + (f" ({note})" if (note := record["training"]["data"]["note"]) else "")
        for record in cells
        if record["training"]
    }
    if data:
        yield f"Images: {'; '.join(sorted(data))}."


def _seconds(record: dict[str, Any]) -> float:
    trained = record["training"]["training_seconds"] if record["training"] else 0.0
    return float(trained + sum(entry["seconds"] for entry in record["evaluations"].values()))


def _verdicts(groups: list[Group]) -> list[Part]:
    found = agreement(groups)
    parts: list[Part] = []
    for verdict, says in (
        (AGREES, f"The paper's claim, that PNIL raises Min, holds here (p < {ALPHA:g}):"),
        (DISAGREES, f"PNIL lowers Min here, against the paper's claim (p < {ALPHA:g}):"),
        (UNDECIDED, f"These runs do not decide the claim at {ALPHA:g}:"),
    ):
        if found[verdict]:
            parts += [says, found[verdict]]
    for says, lines in (
        (
            f"The same pairs by what {AUTO} leaves (significant at {ALPHA:g} or not):",
            under_suite(groups),
        ),
        ("SPSA leaves less than PGD, a sign of hidden gradients:", hidden_gradients(groups)),
        ("The guard saw catastrophic overfitting during training:", collapses(groups)),
        ("PGD leaves no more than guessing would:", helpless(groups)),
        ("Why we think it differs, where it does:", reasons(groups)),
    ):
        parts += [says, lines] if lines else []
    return parts


def _madry(groups: list[Group]) -> Table:
    heads = ("training", "clean", "PGD", "SPSA", "the paper: PGD")
    rows = [
        (
            formatting.model(group.attack, group.pnil),
            *(formatting.percent(group.summary(name)) for name in ("clean", "pgd", "spsa")),
            str(MADRY.get((group.attack, group.pnil), "")),
        )
        for group in groups
    ]
    return heads, rows


def _settings(results: dict[str, Any]) -> str:
    details = {key: results[key] for key in ("budget", "predictions")}
    first = next((record["training"] for record in results["cells"] if record["training"]), None)
    if first is not None:
        details |= {key: first[key] for key in ("versions", "device")}
    return json.dumps(details, indent=2, ensure_ascii=False)


def _picture_as_html(picture: Picture) -> str:
    return f"<p>{escape(picture.caption)}</p>{html.image(picture.png, picture.caption)}"


def _as_html(part: Part) -> str:
    if isinstance(part, str):
        return f"<p>{escape(part)}</p>"
    if isinstance(part, list):
        return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in part) + "</ul>"
    return html.table(*part)


def _as_markdown(part: Part) -> str:
    if isinstance(part, str):
        return part
    return "\n".join(f"- {line}" for line in part) if isinstance(part, list) else markdown(part)
