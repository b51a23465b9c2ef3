"""The words that flags, settings and the library share, each said once. Imports no TensorFlow."""

from __future__ import annotations

ATTACKS = (
    "pgd",
    "pgd_strong",
    "apgd_ce",
    "apgd_dlr",
    "apgd_t",
    "fab_t",
    "square",
    "spsa",
    "fgsm",
    "noise",
)
"""The attacks of an evaluation. Each is a module of `pnil_tf.attacks` with this name, which says
what it is, how it is set up and how it is built; this line is all that an attack needs outside."""

TRAINING_ATTACKS = ("fgsm", "r+fgsm", "rfgsm", "nfgsm", "n-fgsm", "liet", "pgd")
"""The attacks of a training; `pgd-K` is PGD with K steps."""

TRANSFER = "transfer"
"""What an evaluation calls its attack through the gradients of another model."""

SUITES = ("auto", "autoattack")
"""Attacks that follow one another, each on the images that still stand, see `suites`."""

NORMS = ("linf", "l2")
"""Norms in which a ball around an image is measured."""

LOSSES = ("cross_entropy", "margin", "dlr")
"""What an attack can make large."""

MODELS = ("small_cnn", "resnet11")
"""The classifiers of `pnil_tf.models`, by name."""

BACKBONE_PREFIX = "keras_applications:"
"""What stands before the name of a network of `keras.applications`."""

REAL_SIZE_MODEL = f"{BACKBONE_PREFIX}MobileNetV2"
"""The network by which costs are measured on images as large as photographs."""

AVERAGES = ("loss", "logits")
"""What can be averaged over the draws of a stochastic model."""

AUGMENTATIONS = ("none", "shift", "flip_crop")
"""Random views of the images that a training can take."""

KEEP = ("best", "last")
"""Whose epoch's classifier a training keeps."""

SWITCH = ("auto", "true", "false")
"""What a setting can say that may decide by itself."""

LOG_VARIANCES = ("linear", "conv")
"""How the noise of a training's `PNILLayer` is computed from the image."""

EFFORTS = ("quick", "standard", "thorough")
"""How much an evaluation does."""

ENGINES = ("local", "ray")
"""What runs jobs in processes of their own: this machine, or a Ray cluster."""

INITIAL_SIGMA = 0.135
"""Standard deviation with which a `PNILLayer`'s noise starts, as a share of the pixel range.

Hardening a trained model at 8/255 it costs no accuracy within the scatter over seeds; a start of
0.37 costs one or two points, 1.0 about seventeen (docs/results/initial_sigma.json). At a radius
like 0.3, long NFGSM trainings collapse less often from a start of 0.37."""

OUTPUT_KINDS = (
    "logits",
    "probabilities",
    "one logit",
    "one probability",
    "independent probabilities",
)
"""What a classifier can answer. "One" is that of class 1 of two."""
