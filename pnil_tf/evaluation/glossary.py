"""The words of a report, for a reader who meets them for the first time. Imports no TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

Words = Iterable[tuple[str, str]]
"""Terms and what they mean; a term is one name, or several joined by `", "`."""

WORDS = (
    (
        "epsilon, eps",
        "How far an attack may move an image: every pixel by so much (linf), or all pixels "
        "together as a length (l2). A share of the pixel range.",
    ),
    (
        "accuracy",
        "Share of images that are classified rightly. Of a model with noise: the mean over fresh "
        "draws of the noise, which no attack has seen.",
    ),
    (
        "95 % interval",
        "Where the accuracy on all images of this kind lies, as far as these images tell (Wilson).",
    ),
    (
        "effective robustness",
        "The lowest accuracy that one attack leaves, or a suite of them. It is the figure that the "
        "verdict is about.",
    ),
    (
        "worst case",
        "Accuracy where every image meets the attack that harmed it most, judged by draws of its "
        "own.",
    ),
    (
        "auto",
        "Attacks that follow one another, each on the images that stand; the figure takes each "
        "image as the worst of them left it. So does that of autoattack.",
    ),
    (
        "autoattack",
        "The published ensemble (Croce and Hein 2020); for a model with noise their version rand, "
        "and targets and Square beyond it.",
    ),
    ("credible", "The figure stands."),
    ("doubtful", "Too little was done to tell whether the figure stands."),
    ("obfuscated", "The model hides its gradients, and the figure is too high."),
    (
        "hidden gradients",
        "The gradients lead an attack astray, so that it fails although adversarial images exist.",
    ),
    (
        "draw, draws",
        "One answer of a model with noise, which answers differently each time. Figures are "
        "over many.",
    ),
    (
        "EOT",
        "Expectation over transformation: an attack on a model with noise averages its gradients "
        "over draws.",
    ),
    ("majority vote", "Accuracy if the most frequent answer of all draws counted."),
    ("guessing", "Answering always the most frequent class; a dotted line among the bars."),
    ("transfer", "Adversarial images found along the gradients of another model."),
)
"""What a page of any room may say."""


def occurring(words: Words, page: str) -> list[tuple[str, str]]:
    """Returns the words that a page uses, each under those of its names that are there.

    Args:
        words: Terms and what they mean.
        page: HTML. Of its tags counts nothing but what pictures are said to show.
    """
    text = re.sub(r"<[^>]*>", _shown, page)
    found = []
    for term, meaning in words:
        names = [name for name in term.split(", ") if name and _occurs(name, text)]
        if names:
            found.append((", ".join(names), meaning))
    return found


def words_of_attacks(ran: Collection[str]) -> Words:
    """Returns those of the attacks that are of a kind, for each kind, and what the kind is."""
    from pnil_tf.attacks.attack import Kind
    from pnil_tf.attacks.registry import attacks_of_kind

    for kind, meaning in (
        (Kind.GRADIENT, "Attacks that follow the model's gradients in many steps."),
        (
            Kind.GRADIENT_FREE,
            "Attacks that look at the answers alone: hidden gradients do not stop them.",
        ),
        (Kind.SANITY, "Weak by design: any real attack must beat them."),
    ):
        yield ", ".join(name for name in attacks_of_kind(kind) if name in ran), meaning


def _shown(tag: re.Match[str]) -> str:
    alt = re.search(r'alt="([^"]*)"', tag[0])
    return f" {alt[1]} " if alt else " "


def _occurs(name: str, text: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b", text, re.IGNORECASE) is not None
