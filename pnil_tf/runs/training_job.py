"""What a training needs before its first step: settings that were checked, devices and images."""

from __future__ import annotations

import dataclasses
import logging
import math

import keras
import tensorflow as tf

from pnil_tf.attacks.attack import on_gpu
from pnil_tf.attacks.eot import EOT
from pnil_tf.attacks.one_step import StepAttack, step_attack
from pnil_tf.backbones import check_backbone, is_backbone, kept_values
from pnil_tf.contract.pixel_range import PixelRange
from pnil_tf.data import Dataset, load
from pnil_tf.data.image_set import ImageSet
from pnil_tf.data.memory import check_room
from pnil_tf.errors import UserError, argument
from pnil_tf.models import build_model, hidden_weights
from pnil_tf.runs.settings import TrainSettings
from pnil_tf.surgery import add_pnil
from pnil_tf.training.precision import Precision, chosen_precision, configure_precision
from pnil_tf.training.strategy import is_chief, machines, make_strategy
from pnil_tf.validation import require

logger = logging.getLogger(__name__)

_FLOAT_BYTES = 4
# Of a batch at the least: images, start, adversarial images, and what each pass keeps of them.
_BATCH_COPIES = 8
# Of these, as they are read and handed on.
_READ_COPIES = 2
# Of each weight: itself, its gradient, and Adam's two means.
_WEIGHT_COPIES = 4


@dataclasses.dataclass(frozen=True)
class TrainingJob:
    """One training, ready to begin.

    Args:
        settings: Everything that was asked for.
        attack: The training attack; `None` trains on unperturbed images.
        strategy: The devices.
        data: The images.
        precision: What it computes in.
    """

    settings: TrainSettings
    attack: StepAttack | None
    strategy: tf.distribute.Strategy
    data: Dataset
    precision: Precision

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the training images."""
        return len(self.data.train) // self.settings.optimization.batch_size

    @property
    def warmup_steps(self) -> int:
        """Steps over which the training attack grows to its full size."""
        total = self.settings.optimization.epochs * self.steps_per_epoch
        return round(self.settings.attack.epsilon_warmup * total)

    @property
    def pixel_range(self) -> PixelRange:
        """The pixels that the classifier takes."""
        return PixelRange.of(self.settings.model.pixel_range)

    def in_range(self, stream: tf.data.Dataset) -> tf.data.Dataset:
        """A stream of images in [0, 1] and labels, with the pixels that the classifier takes."""
        if self.pixel_range.is_unit:
            return stream
        return stream.map(lambda x, y: (self.pixel_range.from_unit(x), y))

    @property
    def chief(self) -> bool:
        """Whether this process writes the files: of several workers, one does."""
        return is_chief(self.strategy)


def prepare(settings: TrainSettings, precision: Precision | None = None) -> TrainingJob:
    """Checks the settings, configures TensorFlow, and loads the images.

    Args:
        settings: Everything that was asked for.
        precision: That of the run which goes on; `None` follows the settings.

    Raises:
        UserError: If the settings cannot be followed.
    """
    settings.require_radius()
    if is_backbone(str(settings.model.model)):
        check_backbone(str(settings.model.model), settings.model.weights)
    attack = _training_attack(settings)
    strategy = make_strategy(settings.device)
    _check_batch(settings, strategy)
    require(
        precision is not None
        or settings.device.mixed_precision != "auto"
        or not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy),
        f"{argument('mixed_precision', 'auto')} follows the processor, and the workers may have "
        "different ones. Say true or false.",
    )
    precision = precision or chosen_precision(str(settings.device.mixed_precision))
    configure_precision(precision)
    if settings.device.mixed_precision == "auto":
        logger.info("Computing in %s: %s.", precision.policy, precision.why)
    keras.utils.set_random_seed(settings.optimization.seed)
    if settings.device.deterministic:
        tf.config.experimental.enable_op_determinism()
    data = load(settings.data, PixelRange.of(settings.model.pixel_range))
    require(
        settings.optimization.batch_size <= len(data.train),
        f"A batch must not be larger than the training set of {len(data.train)} images, as "
        f"{argument('batch_size', settings.optimization.batch_size)} is. Make it smaller.",
    )
    _check_model(settings, data, precision, machines(strategy))
    return TrainingJob(settings, attack, strategy, data, precision)


def _check_model(
    settings: TrainSettings, data: Dataset, precision: Precision, processes: int
) -> None:
    """Refuses a network that cannot be built for these images, or would fill the memory.

    Args:
        settings: Everything that was asked for.
        data: The images.
        precision: What the training computes in.
        processes: How many share a batch, each with a memory of its own.
    """
    height, width, channels = data.input_shape
    asked = settings.model
    whole = settings.optimization.batch_size
    batch = -(-whole // processes)
    # Every process reads whole batches, and computes with its own part.
    copies = _READ_COPIES * whole + (_BATCH_COPIES - _READ_COPIES) * batch
    needed = _FLOAT_BYTES * copies * math.prod(data.input_shape)
    weights = hidden_weights(str(asked.model), data.input_shape, asked.width)
    kept = 0
    if is_backbone(str(asked.model)):
        # Built to be looked at: a file of weights that does not fit is known before a run begins.
        network = build_model(
            str(asked.model), data.input_shape, data.num_classes, weights=asked.weights
        )
        if asked.pnil_before is not None:
            try:
                add_pnil(network, asked.pnil_before)
            except UserError as error:
                said = argument("pnil_before", asked.pnil_before)
                raise UserError(f"{said} cannot be followed. {error}") from error
        weights = network.count_params()
        kept = batch * kept_values(network)
    if not on_gpu():  # which has a memory of its own
        needed += precision.bytes_of_a_number * kept + _FLOAT_BYTES * _WEIGHT_COPIES * weights
    shared = f" over {processes} processes" if processes > 1 else ""
    stream = (
        f", or read the images from their files by {argument('data_in_memory', False)}"
        if data.source == "folder" and isinstance(data.train, ImageSet)
        else ""
    )
    check_room(
        f"A training on images of {height} x {width} x {channels}",
        needed,
        f"batches of {whole}{shared}"
        + (f" and a classifier of some {weights:,} weights" if weights else ""),
        f"Ask for smaller images with {argument('image_size')}, or for smaller batches with "
        f"{argument('batch_size')}{stream}.",
    )


def _training_attack(settings: TrainSettings) -> StepAttack | None:
    """The training attack's settings; also checks the validation attack's name."""
    asked = settings.attack
    assert asked.epsilon is not None  # filled in by TrainSettings
    if asked.validation_attack != "none":
        step_attack(asked.validation_attack, asked.epsilon, norm=asked.norm)
    if asked.attack == "none":
        return None
    return step_attack(
        asked.attack,
        asked.epsilon,
        step_size=asked.step_size,
        norm=asked.norm,
        eot=EOT(asked.eot_samples),
        clip_start=asked.clip_start or None,
    )


def _check_batch(settings: TrainSettings, strategy: tf.distribute.Strategy) -> None:
    replicas, batch = strategy.num_replicas_in_sync, settings.optimization.batch_size
    require(
        batch % replicas == 0,
        f"The batch must divide over the {replicas} replicas, which "
        f"{argument('batch_size', batch)} does not. Use {max(batch // replicas, 1) * replicas}.",
    )
    images = settings.attack.validation_images
    require(
        images >= replicas,
        f"Each of the {replicas} replicas needs an image to validate. Received: "
        f"{argument('validation_images', images)}.",
    )
