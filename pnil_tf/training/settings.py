"""What a training can be told, as frozen values; no TensorFlow, so that it checks fast.

The fields carry the names of the command line's flags.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, TypeAlias

from pnil_tf.attacks.step_names import name_and_steps
from pnil_tf.contract.pixel_range import PixelRange, check_epsilon
from pnil_tf.errors import argument
from pnil_tf.validation import (
    LARGEST_COUNT,
    MOST_DRAWS,
    check_types,
    is_whole,
    require,
    require_count,
    require_one_of,
    require_positive,
)
from pnil_tf.vocabulary import (
    AUGMENTATIONS,
    BACKBONE_PREFIX,
    INITIAL_SIGMA,
    KEEP,
    LOG_VARIANCES,
    MODELS,
    SWITCH,
)

# The paper's budgets, pixels in [0, 1].
PAPER_EPSILON = {"mnist": 8 / 255, "fashion_mnist": 4 / 255, "cifar10": 0.03}
PAPER_MODEL = {"mnist": "small_cnn", "fashion_mnist": "small_cnn", "cifar10": "resnet11"}
DEFAULT_MAX_LR = 0.005


_Settings: TypeAlias = (
    "ModelSettings | AttackTrainingSettings | OptimizationSettings | DeviceSettings"
)


def _require_positive(settings: _Settings, *names: str) -> None:
    kinds = {field.name: str(field.type) for field in dataclasses.fields(settings)}
    for name in names:
        if kinds[name].startswith("int"):
            most = MOST_DRAWS if name.endswith("eot_samples") else LARGEST_COUNT
            require_count(name, getattr(settings, name), most)
        else:
            require_positive(name, getattr(settings, name))


def check_recipe(
    weight_averaging: float, label_smoothing: float, consistency: float, augment: str
) -> None:
    """Refuses values that no training can follow, of the settings beside the attack.

    Raises:
        UserError: If there is one.
    """
    require(
        0.0 <= weight_averaging < 1.0,
        f"{argument('weight_averaging')} must be 0 (off) or below 1, as 0.9995. Received: "
        f"{weight_averaging!r}.",
    )
    require(
        0.0 <= label_smoothing <= 1.0,
        f"{argument('label_smoothing')} must lie between 0 and 1. Received: {label_smoothing!r}.",
    )
    require(
        0.0 <= consistency < math.inf,
        f"{argument('consistency')} must be at least 0, and finite. Received: {consistency!r}.",
    )
    require_one_of("augment", augment, AUGMENTATIONS)


def check_warmup_steps(steps: Any) -> None:
    """Refuses what is no number of steps over which an attack may grow.

    Raises:
        UserError: If it is none.
    """
    require(
        is_whole(steps) and 0 <= steps <= LARGEST_COUNT,
        "epsilon_warmup_steps must be a whole number of steps, 0 (no warm-up) or more, and at most "
        f"{LARGEST_COUNT}. Received: {steps!r}.",
    )


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """The classifier and its noise layer.

    Args:
        model: One of `MODELS`, or `"keras_applications:NAME"` with the name of a network of
            `keras.applications`; `None` takes the paper's for the data set.
        width: Channels of the first convolution; `None` takes the model's default. Networks of
            `keras.applications` have their own.
        weights: File of weights with which such a network starts; `None` for random ones.
        freeze_batch_norm: Whether its `BatchNormalization` layers stay as that file has them.
        pnil: Whether there is a `PNILLayer`, in front unless `pnil_before` says otherwise.
        pnil_before: Name of the layer of a network of `keras.applications` whose input becomes
            noisy instead of the image. Within the network `pnil_sigma` is in the units there.
        pnil_sigma: Standard deviation with which its noise starts, > 0, as a share of the pixel
            range.
        pnil_per_channel: Whether its weights are shared over all positions.
        pnil_kernel: Whether its noise depends on the image (the paper: yes). Without, more of the
            robustness can be proved.
        pnil_sigma_floor: Standard deviation that its noise never falls below, as a share of the
            pixel range.
        pnil_penalty: Weight in the loss of the logarithm of the noise's sensitivity, see
            `pnil_tf.SensitivityRegularizer`; 0 for none (the paper). Needs `pnil_kernel=False`.
        pnil_trainable: Whether the noise is learned (the paper: yes) or stays as it starts.
        pnil_log_variance: `"linear"`, the paper's: a weight and a bias for each pixel. Or `"conv"`:
            convolutions compute the noise from what surrounds a pixel, see
            `pnil_tf.ConvLogVariance`.
        noise_at_inference: Whether its noise stays on at inference.
        pixel_range: Smallest and largest pixel that the classifier takes; it scales them itself.
    """

    model: str | None = None
    width: int | None = None
    weights: str | None = None
    freeze_batch_norm: bool = False
    pnil: bool = False
    pnil_before: str | None = None
    pnil_sigma: float = INITIAL_SIGMA
    pnil_per_channel: bool = False
    pnil_kernel: bool = True
    pnil_sigma_floor: float = 0.0
    pnil_penalty: float = 0.0
    pnil_trainable: bool = True
    pnil_log_variance: str = "linear"
    noise_at_inference: bool = True
    pixel_range: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        check_types(self)
        _require_positive(self, "pnil_sigma")
        PixelRange.of(self.pixel_range)
        require(
            0.0 <= self.pnil_sigma_floor < self.pnil_sigma,
            f"{argument('pnil_sigma_floor')} lies below the standard deviation that the noise "
            f"starts with, {argument('pnil_sigma', self.pnil_sigma)}, and is at least 0. Received: "
            f"{self.pnil_sigma_floor!r}.",
        )
        require(
            0.0 <= self.pnil_penalty < math.inf,
            f"{argument('pnil_penalty')} must be at least 0. Received: {self.pnil_penalty!r}.",
        )
        require_one_of("pnil_log_variance", self.pnil_log_variance, LOG_VARIANCES)
        require(
            self.pnil_log_variance == "linear"
            or (self.pnil_kernel and not self.pnil_per_channel and not self.pnil_penalty),
            f"{argument('pnil_kernel')}, {argument('pnil_per_channel')} and "
            f"{argument('pnil_penalty')} are about the weights of the linear noise. Received: "
            f"{argument('pnil_log_variance', self.pnil_log_variance)} with one of them. Leave one "
            "out.",
        )
        require(
            not (self.pnil_penalty and self.pnil_kernel),
            f"{argument('pnil_penalty')} is about noise that no image changes: where there is a W, "
            "a proof depends on more than B. Received: "
            f"{argument('pnil_penalty', self.pnil_penalty)} without "
            f"{argument('pnil_kernel', False)}. Add that, or leave the penalty out.",
        )
        require(
            not self.pnil_penalty or (self.pnil and self.pnil_trainable),
            f"{argument('pnil_penalty')} is about noise that is learned. Received: "
            f"{argument('pnil_penalty', self.pnil_penalty)} "
            + (f"with {argument('pnil_trainable', False)}" if self.pnil else "without noise")
            + f". Train with {argument('pnil', True)}, and learn the noise, or set "
            f"{argument('pnil_penalty', 0)}.",
        )
        if self.width is not None:
            _require_positive(self, "width")
        self._check_model()

    @property
    def pnil_in_front(self) -> bool:
        """Whether the noise layer's input is the image."""
        return self.pnil and self.pnil_before is None

    def _check_model(self) -> None:
        require(
            self.pnil_before is None or self.pnil,
            f"{argument('pnil_before')} says where the noise layer goes. Received: "
            f"{argument('pnil_before', self.pnil_before)} without {argument('pnil', True)}. Add "
            "that, or leave it out.",
        )
        if self.model is not None and self.model.startswith(BACKBONE_PREFIX):
            require(
                self.width is None,
                f"A network of keras.applications has its own width. Received: "
                f"{argument('width', self.width)}. Leave it out.",
            )
            require(
                self.weights is not None or not self.freeze_batch_norm,
                f"{argument('freeze_batch_norm', True)} keeps the statistics of pretrained "
                f"weights, and there are none. Give {argument('weights')}, or leave it out.",
            )
            return
        if self.model is not None:
            require_one_of("model", self.model, (*MODELS, f"{BACKBONE_PREFIX}NAME"))
        for name in ("weights", "freeze_batch_norm", "pnil_before"):
            require(
                not getattr(self, name),
                f"{argument(name)} is about the networks of keras.applications. Received: "
                f"{argument('model', self.model or 'the default')}. Leave it out, or give "
                f"{argument('model', BACKBONE_PREFIX + 'NAME')}.",
            )


@dataclasses.dataclass(frozen=True)
class AttackTrainingSettings:
    """The training attack, the validation attack and the loss.

    Args:
        attack: A name of `pnil_tf.attacks.one_step.step_attack`, or `"none"`.
        epsilon: Radius, a share of the pixel range, > 0; `None` takes the paper's for the data set.
        step_size: Length of the step; `None` takes the attack's own.
        norm: `"linf"` or `"l2"`.
        epsilon_warmup: Share of the training's steps, below 1, over which the training attack
            grows in a straight line from nothing to its full size: radius, step and start.
        eot_samples: Draws of the noise per gradient of the training attack.
        clip_start: Whether the random start is clipped to [0, 1] (the paper: no).
        clean_weight: Share of clean images in the loss (the paper: 0).
        validation_attack: The attack that chooses the best epoch.
        validation_images: Number of validation images attacked after every epoch.
        validation_eot_samples: Draws per gradient of the validation attack.
        guard: What happens on catastrophic overfitting: `"off"`, `"warn"`, `"stop"` or
            `"rollback"`.
    """

    attack: str = "nfgsm"
    epsilon: float | None = None
    step_size: float | None = None
    norm: str = "linf"
    epsilon_warmup: float = 0.0
    eot_samples: int = 1
    clip_start: bool = False
    clean_weight: float = 0.0
    validation_attack: str = "pgd-10"
    validation_images: int = 1000
    validation_eot_samples: int = 4
    guard: str = "warn"

    def __post_init__(self) -> None:
        check_types(self)
        _require_positive(self, "eot_samples", "validation_images", "validation_eot_samples")
        for attack in (self.attack, self.validation_attack):
            if attack != "none":
                name_and_steps(attack)
        for name in ("epsilon", "step_size"):
            if getattr(self, name) is not None:
                _require_positive(self, name)
        if self.epsilon is not None:
            check_epsilon(self.epsilon, self.norm)
        require(
            0.0 <= self.epsilon_warmup < 1.0,
            f"{argument('epsilon_warmup')} is a share of the training's steps: 0 (off) or below 1, "
            f"as 0.3. Received: {self.epsilon_warmup!r}.",
        )
        require(
            0.0 <= self.clean_weight <= 1.0,
            f"{argument('clean_weight')} must lie between 0 and 1. Received: "
            f"{self.clean_weight!r}.",
        )


@dataclasses.dataclass(frozen=True)
class OptimizationSettings:
    """Length, batches and learning rate of the training.

    Args:
        epochs: Passes over the training images.
        batch_size: Images per step, over all replicas.
        max_lr: Peak learning rate of Adam, or `"auto"` for an LR range test first (and for the
            default, if its curve decides nothing).
        min_lr: Lower bound of the `triangular` schedule; `None` takes a tenth of `max_lr`.
        schedule: `"one_cycle"`, `"triangular"` or `"constant"`.
        cycle_epochs: Period of the `triangular` schedule.
        weight_averaging: Decay per step of the average of the weights, which is then what is
            validated, kept and exported; 0 (the paper) averages nothing.
        keep: The epoch whose classifier is kept: the `"best"`, with the lowest (adversarial)
            validation loss, or the `"last"`.
        weight_decay: Decay of the kernels beside their gradients (AdamW): each step takes this
            share of them, times the learning rate. 0 (the paper) lets none decay. Biases, batch
            normalization and PNIL never do.
        label_smoothing: Share of a label that is spread over all classes in the training loss.
        consistency: Weight of a loss between the logits at the attack's start and at its end.
        augment: Random views of the training images: `"none"`, `"shift"` or `"flip_crop"`.
        seed: Seed of the weights, the order of the images and all noise.
    """

    epochs: int = 10
    batch_size: int = 100
    max_lr: float | str = DEFAULT_MAX_LR
    min_lr: float | None = None
    schedule: str = "one_cycle"
    cycle_epochs: float = 5.0
    weight_averaging: float = 0.0
    keep: str = "best"
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    consistency: float = 0.0
    augment: str = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        _require_positive(self, "epochs", "batch_size", "cycle_epochs")
        if self.max_lr != "auto":
            _require_positive(self, "max_lr")
        if self.min_lr is not None:
            _require_positive(self, "min_lr")
        require_one_of("keep", self.keep, KEEP)
        require(
            0.0 <= self.weight_decay < 1.0,
            f"{argument('weight_decay')} must be 0 (off) or below 1, as 0.05. Received: "
            f"{self.weight_decay!r}.",
        )
        check_recipe(self.weight_averaging, self.label_smoothing, self.consistency, self.augment)
        require(
            0 <= self.seed < 2**32,
            f"{argument('seed')} must lie between 0 and {2**32 - 1}. Received: {self.seed!r}.",
        )
        if self.schedule == "triangular" and self.max_lr != "auto" and self.min_lr is not None:
            require(
                self.min_lr <= float(self.max_lr),
                f"{argument('min_lr')} must not exceed {argument('max_lr')}. Received: "
                f"{self.min_lr!r} and {self.max_lr!r}.",
            )


@dataclasses.dataclass(frozen=True)
class DeviceSettings:
    """Where and in which precision the training runs.

    Args:
        num_cpu_devices: Logical CPU devices, one replica on each; 1 for ordinary use.
        mixed_precision: Whether to compute in float16 (GPU) or bfloat16 (CPU), `"true"` or
            `"false"`; `"auto"` does where the processors have instructions for it. `True` and
            `False` become these words.
        jit_compile: `"auto"` (XLA on GPUs only), `"true"` or `"false"`.
        deterministic: Whether every operation must give the same bits in every run.
    """

    num_cpu_devices: int = 1
    mixed_precision: bool | str = "false"
    jit_compile: str = "auto"
    deterministic: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        if isinstance(self.mixed_precision, bool):  # as it was kept until it could be auto
            object.__setattr__(self, "mixed_precision", str(self.mixed_precision).lower())
        for name in ("mixed_precision", "jit_compile"):
            require_one_of(name, str(getattr(self, name)), SWITCH)
        _require_positive(self, "num_cpu_devices")
