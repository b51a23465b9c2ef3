"""The words of a report, for a reader who meets them for the first time."""

from __future__ import annotations

GLOSSARY = (
    (
        "epsilon",
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
        "The lowest accuracy that one attack leaves. It is the figure that the verdict is about.",
    ),
    (
        "worst case",
        "Accuracy where every image meets the attack that harmed it most, judged by draws of its "
        "own.",
    ),
    (
        "credible, doubtful, obfuscated",
        "The figure stands; too little was done to tell; the model hides its gradients, and the "
        "figure is too high.",
    ),
    (
        "draws, EOT",
        "A model with noise answers differently each time. Attacks average their gradients over "
        "draws (expectation over transformation), and the judge averages the answers.",
    ),
    ("majority vote", "Accuracy if the most frequent answer of all draws counted."),
    ("guessing", "Accuracy of always answering the most frequent class."),
    (
        "attacks with gradients",
        "pgd, pgd_strong, apgd and fab follow the model's gradients; fgsm does so for one step.",
    ),
    (
        "attacks without gradients",
        "square and spsa look at the answers alone: hidden gradients do not stop them. noise only "
        "moves pixels at random.",
    ),
)
"""Terms and what they mean."""
