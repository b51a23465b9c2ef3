"""A certificate as one HTML page that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pnil_tf.certificate.output import sides_in
from pnil_tf.contract.pixel_range import PixelRange
from pnil_tf.evaluation.beside import HEADS as _SIDES
from pnil_tf.evaluation.beside import rows_of
from pnil_tf.evaluation.glossary import WORDS, occurring
from pnil_tf.evaluation.plots import accuracy_curves
from pnil_tf.html import definitions, escape, facts, image, page, section, table
from pnil_tf.progress import clock

HEADS = ("radius", "certified accuracy", "95 % interval", "single draws, at least")
SIDES = ("radius", *_SIDES)

_WORDS = (
    (
        "certified accuracy",
        "Share of images of which it is proved that nothing within the radius changes the "
        "majority's answer, where it is right.",
    ),
    ("majority", "The class that most draws of the noise answer with."),
    ("single draws", "The model asked once, under fresh noise."),
    (
        "confidence",
        "How often such a statement about an image is right, whatever the draws happen to be.",
    ),
    (
        "attacked",
        "Accuracy that an evaluation's attacks leave: the truth lies between it and what is "
        "proved.",
    ),
)


def sentence(results: Mapping[str, Any]) -> str:
    """The certificate in one sentence."""
    at, settings = results["certified"], results["settings"]
    radius = PixelRange.of(results["model"]["pixel_range"]).says(
        settings["epsilon"], settings["norm"]
    )
    return (
        f"Proved: within epsilon {radius}, {settings['norm']}, the majority over the noise answers "
        f"{_what(results)} on {_share(at)} of {results['images']} images, whatever the attack "
        f"(each with a confidence of {1 - settings['alpha']:.4g}, by {settings['draws']:,} draws)."
    )


def rows(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The curve, the cells below `HEADS`."""
    pixels = PixelRange.of(results["model"]["pixel_range"])
    return [
        (
            pixels.says(point["epsilon"], results["settings"]["norm"]),
            f"{point['value']:.1%}",
            f"{point['low']:.1%} to {point['high']:.1%}",
            f"{point['single_draw']['value']:.1%}",
        )
        for point in results["curve"]
    ]


def side_rows(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """What is proved beside what attacks left, at each of their radii: the cells below `SIDES`."""
    pixels = PixelRange.of(results["model"]["pixel_range"])
    return [
        (pixels.says(sides["epsilon"], results["settings"]["norm"]), *cells)
        for sides in sides_in(results)
        for cells in rows_of(sides)
    ]


def picture(results: Mapping[str, Any]) -> bytes:
    """What is proved over the radius, and at the attacks' radii what they left; PNG."""
    lines = {
        "majority, proved": results["curve"],
        "single draws, proved": [_single(point) for point in results["curve"]],
    }
    attacked: dict[str, list[dict[str, Any]]] = {}
    for sides in sides_in(results):
        count = sides["images"]
        first = "" if count == results["images"] else f" (first {count} images)"
        for kind, name in (("majority", "majority"), ("single_draw", "single draws")):
            point = {"epsilon": sides["epsilon"], **sides[kind]["attacked"]}
            attacked.setdefault(f"{name}, attacked{first}", []).append(point)
    return accuracy_curves(lines, "epsilon", "epsilon", results["settings"]["epsilon"], attacked)


def _single(point: Mapping[str, Any]) -> dict[str, Any]:
    return {"epsilon": point["epsilon"], **point["single_draw"]}


def render(results: Mapping[str, Any]) -> str:
    """Returns the page's HTML."""
    sections = [
        f'<p class="verdict credible"><strong>Proved.</strong> {escape(sentence(results))}</p>',
        facts(_about(results)),
        section(
            "Certified accuracy over the radius",
            image(picture(results), "Curves of certified accuracy; the table says their points.")
            + table(HEADS, rows(results)),
        ),
    ]
    if sides_in(results):
        sections.append(section("Both sides", table(SIDES, side_rows(results))))
    elif results["labels"]:
        sections.append(section("Both sides", f"<p>{_ALONE}</p>"))
    sections.append(section("What it means", f"<p>{escape(_MEANING)}</p>"))
    words = occurring([*WORDS, *_WORDS], "\n".join(sections))
    sections.append(section("The words", definitions(words)))
    details = {key: results[key] for key in ("settings", "model", "noise", "data", "versions")}
    text = json.dumps(details, indent=2, ensure_ascii=False)
    sections.append(section("All settings", f"<pre>{escape(text)}</pre>"))
    return page("Certificate", "Certified robustness", sections)


_ALONE = (
    "When this page was written, no evaluation of the same images stood beside it. One that came "
    "later shows both sides in its own report; certifying again with resume, which draws nothing "
    "anew, has this page show them, too."
)

_MEANING = (
    "The majority is the class that most draws of the noise answer with. That it stays within the "
    "radius is proved for each image by itself, with a confidence for each image; it holds for "
    "every attack, those that nobody has thought of among them, as long as the noise is fresh "
    "Gaussian noise that the attacker cannot foresee. The accuracy of single draws is the least "
    "that is left of it. An image that is not certified need not be in danger: only nothing is "
    "proved of it."
)


def _about(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    settings, noise = results["settings"], results["noise"]
    entries = [
        ("model", str(results["model_name"])),
        ("noise", f"{noise['layer']}: {noise['method']}"),
        ("images", f"{results['images']}, the first of them"),
        ("draws", f"{settings['draws']:,} for each, after {settings['selection_draws']} others"),
        ("no majority proved", f"{results['abstained']:.1%} of the images"),
        ("time", f"{clock(results['seconds'])}, {results['draws_per_second']:,.0f} draws a second"),
        ("date", results["finished"].replace("T", " ").replace("+00:00", " UTC")),
        ("seed", str(settings["seed"])),
        ("versions", ", ".join(f"{name} {found}" for name, found in results["versions"].items())),
    ]
    if noise["largest_radius"] is not None:
        entries.insert(2, ("largest radius", f"{noise['largest_radius']:.4g}, with so many draws"))
    return entries


def _what(results: Mapping[str, Any]) -> str:
    return "rightly" if results["labels"] else "as without an attack"


def _share(figure: Mapping[str, Any]) -> str:
    return f"{figure['value']:.1%}"
