"""The model card: what whoever serves a model must know of it, as one Markdown page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pnil_tf.certificate.front import FrontNoise
from pnil_tf.contract.pixel_range import BYTES, PixelRange
from pnil_tf.errors import UserError
from pnil_tf.serving.certified import ALPHA, SELECTION_DRAWS
from pnil_tf.serving.record import Accuracy, Record
from pnil_tf.serving.signatures import Servable
from pnil_tf.visible import visible

_FRESH = (
    "The model adds noise to what it sees, afresh at every call and in every process that loads "
    "it: two answers to one image differ, and no restart repeats them. The seeded signatures "
    "repeat an answer for tests and audits: all images get the noise of the seed, whatever their "
    "batch. The draws of `monte_carlo_seeded` differ from each other and are the same for all "
    "images, so what one image is told is right, while a mean over images under one seed has the "
    "luck of that seed: take several. Decide by the unseeded ones: who knows the noise can attack "
    "the model as if it had none."
)
_NOT_REPEATABLE = (
    "The model draws random numbers of its own: two answers to one image differ, and no seed "
    "repeats them."
)
_QUIET = "The model draws no noise: it gives one answer to one image."

_PROVED = (
    "`certified` answers with the class that is proved to be the majority's over draws of the "
    "noise, and with radii, shares of the pixel range, within which no change of the image gives "
    "the majority another class. Noise that is {method}. "
    f"{SELECTION_DRAWS} draws choose the class, `draws` others are counted; the more they are, the "
    "larger a radius can be proved. Each answer is wrong by chance with a probability of no more "
    f"than {ALPHA:g} (alpha): for n images at once, the chance that one of them is wrong may be n "
    "times that. Where nothing is proved the class is -1. Its draws are fresh at every call and "
    "reach 8.5 standard deviations; those of the other signatures end near 5.7, so that a proof "
    "is about answers of `certified` itself."
)


def model_card(
    classifier: Servable,
    record: Record,
    signatures: Mapping[str, tuple[str, str]],
    noise: str | None = None,
) -> str:
    """Returns the card.

    Args:
        classifier: The classifier.
        record: What is known of it.
        signatures: For each that it was exported with, its inputs and outputs in words.
        noise: How the noise behaves, where it is not as in a SavedModel.
    """
    height, width, channels = classifier.image_shape
    return (
        "\n\n".join(
            [
                f"# {_plain(record.name)}",
                f"An image classifier: {height} x {width} pixels, {channels} channel"
                f"{'' if channels == 1 else 's'}, {classifier.target.num_classes} classes"
                + (f", trained on {_plain(record.data)}." if record.data else "."),
                "## Intended use and limits",
                _use(record),
                "## Accuracy",
                _accuracies(record),
                "## Noise",
                noise or _noise(classifier),
                *_proved(classifier, signatures),
                "## Signatures",
                _table(
                    ("signature", "inputs", "outputs"),
                    [(f"`{name}`", *words) for name, words in signatures.items()],
                ),
                _pixels(classifier),
                "## Classes",
                _classes(record, classifier.target.num_classes),
                "## Training",
                _training(record),
            ]
        )
        + "\n"
    )


def preprocessing(classifier: Servable, record: Record) -> dict[str, Any]:
    """Returns how images become the classifier's input, ready for JSON."""
    height, width, channels = classifier.image_shape
    return {
        "image_shape": [height, width, channels],
        "pixel_range": [classifier.pixel_range.low, classifier.pixel_range.high],
        "pixel_range_assumed": classifier.range_assumed,
        "uint8": _of_bytes(classifier.pixel_range),
        "resize": {"size": [height, width], "method": "bilinear", "antialias": True}
        if record.resized
        else None,
        "trained_on": record.data,
    }


def _pixels(classifier: Servable) -> str:
    pixels = _plain(classifier.pixel_range)
    assumed = (
        " (assumed: nothing in the model and nobody who exported it told)"
        if classifier.range_assumed
        else ""
    )
    return (
        f"The model takes pixels in {pixels}{assumed}; uint8 images and files are brought there. "
        "The batch may have any size. An image with pixels that are not finite, or farther outside "
        f"{pixels} than that is wide, has the class -1, and so has a file that is damaged, too "
        "large, or of another size where nothing is resized. The others of its batch are answered "
        "as without it."
    )


def _of_bytes(pixel_range: PixelRange) -> str:
    if pixel_range == BYTES:
        return "taken as they are"
    if pixel_range.is_unit:
        return "divided by 255"
    return f"divided by 255, times {pixel_range.width:g}, plus {pixel_range.low:g}"


def _use(record: Record) -> str:
    data = _plain(record.data) if record.data else "its training data"
    return (
        f"For images like those of {data}, and for studying adversarial robustness. Any image "
        "gets one of the classes, whether or not it shows one of them. The accuracy below is that "
        "on images of the same kind and, under attack, within the stated radius and against the "
        "stated attacks alone: it is no certificate, stronger attacks may exist, and changes "
        "other than such perturbations (other cameras, blur, rotations) were not measured. Not "
        "for decisions that endanger people."
    )


def _accuracies(record: Record) -> str:
    parts = []
    if record.accuracies:
        rows = [(_plain(a.name), _percent(a), f"{a.images:,}") for a in record.accuracies]
        parts.append(_table(("on", "accuracy (95 % interval)", "images"), rows))
    else:
        parts.append("Nothing was measured, or nothing is known of it.")
    parts += [_plain(text) for text in (record.verdict, record.note) if text]
    return "\n\n".join(parts)


def _percent(accuracy: Accuracy) -> str:
    value, low, high = (100 * x for x in (accuracy.value, accuracy.low, accuracy.high))
    return f"{value:.1f}% ({low:.1f}% to {high:.1f}%)"


def _noise(classifier: Servable) -> str:
    if not classifier.target.stochastic:
        return _QUIET
    return _FRESH if classifier.target.repeatable else _NOT_REPEATABLE


def _proved(classifier: Servable, signatures: Mapping[str, object]) -> list[str]:
    """What `certified` says, or why there is none; nothing where there could be none."""
    front = classifier.noise_in_front
    if isinstance(front, FrontNoise) and "certified" in signatures:
        return ["## What is proved", _PROVED.format(method=front.method)]
    if isinstance(front, UserError) and "monte_carlo" in signatures:
        return ["## What is proved", f"There is no signature `certified`. {_plain(front)}"]
    return []


def _classes(record: Record, count: int) -> str:
    if not record.class_names:
        return f"The {count} classes have no known names."
    return _table(
        ("class", "name"), [(str(i), _plain(name)) for i, name in enumerate(record.class_names)]
    )


def _training(record: Record) -> str:
    if not record.training:
        return "Nothing is known of the training."
    rows = [(f"`{_code(name)}`", _plain(value)) for name, value in record.training.items()]
    return _table(("setting", "value"), rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _code(name: str) -> str:
    """Text that stays within backticks and a table's cell."""
    return re.sub(r"[`|\s]", "", visible(name))


def _plain(value: Any) -> str:
    """Text that Markdown and HTML show as it is, on one line."""
    text = " ".join(visible(str(value)).split())
    return re.sub(r"([\\`*_{}\[\]<>#|!&~$])", r"\\\1", text)
