"""What `fit` and `evaluate` look at before they give figures: classifier, loss, pixels, labels."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pnil_tf.contract.batches import Extremes, check_array, check_pixels, pixel_extremes
from pnil_tf.contract.checks import (
    check_each_alone,
    check_input_gradient,
    check_noise,
    draws_without_seed,
    only_stock_layers,
)
from pnil_tf.contract.classifier import (
    Classifier,
    check_input,
    check_same_activation,
    classifier_of,
    fixed_batch,
    image_shape_of,
    preprocessing_inside,
    random_images,
)
from pnil_tf.contract.pixel_range import UNIT, PixelRange, PixelRangeLike
from pnil_tf.errors import UserError
from pnil_tf.keras_internals import ImagePreprocessing, all_layers, untrack
from pnil_tf.tensors import Answers, PerImage, Pixels, Scalar, Tensor
from pnil_tf.training.accuracy import ClassifierAccuracy, check_thresholds, with_own_accuracy
from pnil_tf.training.attacked_loss import check_slope
from pnil_tf.training.distributed_fit import DistributedFit, StepFunction
from pnil_tf.training.labels import Labels, are_rows
from pnil_tf.training.losses import UserLoss, check_outputs, example_loss, expects_logits, loss_name
from pnil_tf.training.types import (
    Array,
    Batch,
    Data,
    Figures,
    Logs,
    LossWeights,
    UserMetric,
    UserMetrics,
)

# Of Keras' own sentence about data that have no batch axis.
_SINGLE_IMAGES = "When passing a dataset to a Keras model, the arrays must be at least rank 1"
_NO_LABELS = (math.inf, -math.inf, -math.inf)
"""Smallest and largest label of a batch without any, and that none of them names no class."""


@dataclasses.dataclass(frozen=True)
class _AskedMetrics:
    """The compiled metrics, where Keras does not find them: it would count each of them again."""

    metrics: list[UserMetric]


class CheckedFit(DistributedFit):
    """A Keras model around a classifier that refuses what would give wrong figures.

    The classifier is looked at as soon as the shape of its images is known: in `compile`, or at the
    first batch. Arrays are checked as a whole before any work. Of every other container the
    extremes of pixels and labels are kept on the device, and looked at after the first batch, ever
    more seldom after that, and before a figure is returned.
    """

    classifier: keras.Model
    steps_taken: keras.Variable

    def __init__(
        self,
        classifier: keras.Model,
        pixel_range: PixelRangeLike | None = None,
        outputs: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.classifier = classifier
        self._given_range = None if pixel_range is None else PixelRange.of(pixel_range)
        self._given_outputs = outputs
        self._contract: Classifier | None = None
        self._labels = Labels(count=2, loss=None)  # settled with the contract
        self._asked = _AskedMetrics([])
        self._sound = self._rows = self._to_tell = self._free_noise = False
        self._needs_gradients = True
        self._calls, self._trained = 0, False
        with self.distribute_strategy.scope():
            self._extremes = Extremes(lows=2, highs=4)

    @property
    def given_range(self) -> PixelRange | None:
        """The pixel range that was said; `None` where it is to be found in the classifier."""
        return self._given_range

    @property
    def given_outputs(self) -> str | None:
        """What was said of the outputs; `None` where classifier and loss are to tell."""
        return self._given_outputs

    @property
    def settled_outputs(self) -> str | None:
        """What the outputs are, as said, or as classifier and loss have told."""
        if self._given_outputs is not None or self._contract is None:
            return self._given_outputs
        return self._contract.outputs.kind

    @property
    def pixel_range(self) -> PixelRange:
        """The pixels that the classifier takes: as said, as found in it, or [0, 1]."""
        if self._contract is not None:
            return self._contract.pixel_range
        shape = self._known_shape()
        if self._given_range or shape is None:
            return self._given_range or UNIT
        return preprocessing_inside(self.classifier, shape).pixel_range or UNIT

    def __setattr__(self, name: str, value: object) -> None:
        if name == "classifier" and "classifier" in vars(self):
            # Optimizer and graphs are those of the one before.
            untrack(self, self.classifier)
            self._contract, self._sound = None, False
            self.compiled = False
        super().__setattr__(name, value)

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "adam",
        loss: UserLoss = None,
        loss_weights: LossWeights = None,
        metrics: UserMetrics = None,
        weighted_metrics: UserMetrics = None,
        **kwargs: Any,
    ) -> None:
        """As `keras.Model.compile`; refuses a loss that does not fit the classifier."""
        check_input(self.classifier)
        with self.distribute_strategy.scope():
            metrics, weighted_metrics = map(with_own_accuracy, (metrics, weighted_metrics))
        super().compile(optimizer, loss, loss_weights, metrics, weighted_metrics, **kwargs)
        self._asked = _AskedMetrics(keras.tree.flatten([metrics, weighted_metrics]))
        self._contract, self._sound = None, False
        shape = self._known_shape()
        if shape is not None:  # otherwise the first batch will show it
            self._look(shape)

    def _known_shape(self) -> tuple[int | None, ...] | None:
        """The shape of an image, where the classifier knows it."""
        if not self.classifier.built:
            return None
        try:
            return image_shape_of(self.classifier)
        except UserError:
            return None

    def _declares_sizes(self) -> bool:
        """Whether the classifier takes images of one size alone."""
        try:
            return None not in image_shape_of(self.classifier, declared=True)
        except UserError:
            return False

    def _look(self, image_shape: Sequence[int | None]) -> Classifier:
        """Settles what the classifier is, once."""
        if self._contract is None:
            contract = classifier_of(
                self.classifier,
                image_shape=image_shape,
                pixel_range=self._given_range,
                outputs=self._given_outputs,
                probabilities=expects_logits(self.loss) is False,
            )
            if not only_stock_layers(self.classifier):
                check_same_activation(contract)
            check_outputs(contract.outputs, self.loss)
            check_thresholds(self._asked.metrics, contract.outputs)
            if not (contract.in_graph or self.run_eagerly):
                raise UserError(
                    "TensorFlow cannot put the classifier into a graph. Received: "
                    f"{self.classifier.name!r}, with a layer of plain Python or NumPy, or one that "
                    "forgets the shape of its result (tf.py_function). Say that shape by "
                    "tf.ensure_shape, write the layer in keras.ops, or pass run_eagerly=True to "
                    "compile."
                )
            if self._needs_gradients:
                if not contract.outputs.exact:
                    warnings.warn(
                        "The logits behind the classifier's probabilities are not to be seen, so "
                        "attacks start from the logarithm of these. Images of which it is so sure "
                        "that a probability is 0 cannot be attacked, and then count as robust. "
                        "Let the classifier end in a plain softmax or sigmoid.",
                        stacklevel=2,
                    )
                check_slope(example_loss(self.loss), contract.outputs)
            self._labels = Labels(contract.outputs.count, loss_name(self.loss))
            for metric in self._asked.metrics:
                if isinstance(metric, ClassifierAccuracy):
                    metric.settle(self._labels, contract.outputs)
            self._contract = contract
            self._tell()
        return self._contract

    def _tell(self) -> None:
        """Prints what a training rests on, once."""
        if self._to_tell and self._contract is not None:
            print(self._terms(self._contract), flush=True)
            self._to_tell = False

    def _terms(self, contract: Classifier) -> str:
        return f"The classifier answers with {contract.outputs.kind}; pixels {contract.pixel_range}"

    def _look_closely(self, image_shape: Sequence[int | None]) -> None:
        """Tries the classifier on a few random images, once."""
        contract = self._look(image_shape)
        if self._sound:
            return
        # A data set may leave sizes open that the classifier knows.
        sizes = zip(image_shape, contract.image_shape, strict=True)
        shape = [seen or own for seen, own in sizes]
        images = random_images(shape, self.classifier_batch or 4)
        if self._needs_gradients:
            few = images[: self.classifier_batch or 2]
            check_input_gradient(contract, few)
            if self._differs_in_training():
                check_input_gradient(contract, few, training=True)
        # Keras' own layers do not draw their noise in Python; attacks run in a graph, under
        # run_eagerly too.
        if contract.in_graph and not only_stock_layers(self.classifier):
            check_noise(contract, images)
            self._free_noise = check_noise(contract, images, training=True)
            self._free_noise |= draws_without_seed(contract, images)
        check_each_alone(contract, images)
        self._sound = True

    def _differs_in_training(self) -> bool:
        """Whether layers may do to images in training what gradients do not pass through."""
        return not only_stock_layers(self.classifier) or any(
            isinstance(layer, ImagePreprocessing) for layer in all_layers(self.classifier)
        )

    @property
    def classifier_batch(self) -> int | None:
        """The batch size that the classifier is built for, if it takes no other."""
        return fixed_batch(self.classifier)

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Batch | None = None) -> None:
        super()._maybe_symbolic_build(iterator=iterator, data_batch=data_batch)
        # Within a replica nothing can be tried. And while a step is traced, gradients do not pass
        # through what computes its own by a tape (keras.remat): better now, where sizes are known.
        if self._replicated or self._declares_sizes():
            self._look_closely(image_shape_of(self.classifier))

    def _checked_batch(self, data: Batch) -> tuple[Pixels, Tensor, PerImage | None]:
        """Takes a batch apart (images float32, labels, weights), and notes what it holds."""
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        if y is None and isinstance(x, dict):
            raise UserError(
                f"The data yield dictionaries of {', '.join(map(repr, x))}. Let them yield "
                "(images, labels), for example by data.map(lambda d: (d['image'], d['label']))."
            )
        _check_single(x, "images")
        if y is None:
            raise UserError(
                "Adversarial training needs labels. Received: batches of images alone. Let the "
                "data yield (images, labels)."
            )
        _check_single(y, "labels")
        x, y = tf.cast(x, tf.float32), tf.convert_to_tensor(y)
        known = self._known_shape()
        if y.shape.rank == 0 or (known is not None and x.shape.rank == len(known)):
            raise UserError(_image_by_image(f"images of shape {tuple(x.shape)}"))
        if x.shape.rank is None:
            x = self._with_known_rank(x)
        if not (self._replicated and self._sound):
            # Out of the step's graph. Where there is none, that would keep tapes from recording.
            with contextlib.nullcontext() if tf.executing_eagerly() else tf.init_scope():
                self._look_closely(x.shape[1:])
        y = self._labels.beside_outputs(y)
        self._labels.check_form(y)
        self._rows = are_rows(y, self._labels.count)
        # First: an operation of the step may fail on what is wrong here, and say less.
        with tf.control_dependencies([self._note(x, self._labels.extremes(y))]):
            return tf.identity(x), tf.identity(y), weight

    def _note(self, x: Pixels, labels: tuple[Scalar, Scalar, Scalar] = _NO_LABELS) -> Tensor:
        """Keeps the extremes of a batch; returns the tensor that does it."""
        low, high, fractional = pixel_extremes(x, self.pixel_range)
        label_low, label_high, odd = labels
        return self._extremes.note([low, label_low], [high, label_high, fractional, odd])

    def predict_step(self, data: Batch) -> Answers:
        """The classifier's outputs of a batch, whose pixels are looked at."""
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        _check_single(x, "images")
        x = tf.cast(x, tf.float32)
        with tf.control_dependencies([self._note(x)]):
            return self(tf.identity(x), training=False)

    def _with_known_rank(self, x: Pixels) -> Pixels:
        shape = self._known_shape()
        if shape is None:
            raise UserError(
                "The images come without a known shape. Give the data "
                "set's generator an output_signature, or use tf.ensure_shape."
            )
        return tf.ensure_shape(x, [None, *shape])

    def _check_extremes(self) -> None:
        """Refuses what the batches since the last look should not have held."""
        seen = self._extremes.take(self.distribute_strategy)
        if seen is None:
            return
        (low, label_low), (high, label_high, fractional, odd) = seen
        check_pixels(self.pixel_range, low, high, fractional > 0)
        self._labels.check_values(self._rows, label_low, label_high, odd > 0)

    def make_train_function(self, force: bool = False) -> StepFunction:
        """Builds the function of a training step; its batches are looked at."""
        before = self.train_function
        super().make_train_function(force)
        if self.train_function is not before:
            self.train_function = self._watched(self.train_function, trains=True)
        return self.train_function

    def make_test_function(self, force: bool = False) -> StepFunction:
        """Builds the function of an evaluation step; its batches are looked at."""
        before = self.test_function
        super().make_test_function(force)
        if self.test_function is not before:
            self.test_function = self._watched(self.test_function, trains=False)
        return self.test_function

    def _watched(self, function: StepFunction, trains: bool) -> StepFunction:
        def run(data: Iterator[Batch]) -> Logs:
            if trains:
                self._build_optimizer()
            try:
                logs = function(data)
            except tf.errors.InvalidArgumentError:
                self._check_extremes()  # a label out of range fails in the loss, on a CPU
                raise
            self._calls += 1
            self._trained |= trains
            # A look waits for the device: seldom, then.
            if self._calls & (self._calls - 1) == 0:
                self._check_extremes()
            return logs

        return run

    def _build_optimizer(self) -> None:
        """Spares TensorFlow from tracing a step again, as it does where the step makes variables.

        Not before the first step: a callback may have thawed layers when the training began.
        """
        if not self.optimizer.built and all(layer.built for layer in all_layers(self.classifier)):
            self.optimizer.build(self.classifier.trainable_weights)

    def fit(
        self, x: Data = None, y: Array | None = None, *args: Any, **kwargs: Any
    ) -> keras.callbacks.History:
        """As `keras.Model.fit`; refuses images and labels that the classifier does not take."""
        self._check_arrays(x, y)
        validation = kwargs.get("validation_data")
        if isinstance(validation, (list, tuple)) and len(validation) >= 2:
            self._check_arrays(*validation[:2])
        self._calls, self._trained = 0, False
        begun_at = int(self.steps_taken.numpy())
        self._to_tell = bool(args[2] if len(args) > 2 else kwargs.get("verbose", "auto"))
        self._tell()
        with _told_of_single_images():
            history = super().fit(x, y, *args, **kwargs)
        self._check_extremes()
        # Where batches end within several steps at once, only the steps tell of them.
        learned = self._trained or int(self.steps_taken.numpy()) > begun_at
        if history.epoch and not learned:
            raise UserError(
                "The data gave no batch, so nothing was learned. See that a filter or take() "
                "leaves images in them."
            )
        return history

    def evaluate(
        self, x: Data = None, y: Array | None = None, *args: Any, **kwargs: Any
    ) -> Figures:
        """As `keras.Model.evaluate`; refuses images and labels that `fit` refuses."""
        self._check_arrays(x, y)
        self._check_extremes()
        with _told_of_single_images():
            result = super().evaluate(x, y, *args, **kwargs)
        self._check_extremes()
        return result

    def train_on_batch(
        self, x: Array, y: Array | None = None, *args: Any, **kwargs: Any
    ) -> Figures:
        """As `keras.Model.train_on_batch`; refuses what `fit` refuses."""
        self._check_arrays(x, y)
        logs = super().train_on_batch(x, y, *args, **kwargs)
        self._check_extremes()
        return logs

    def test_on_batch(self, x: Array, y: Array | None = None, *args: Any, **kwargs: Any) -> Figures:
        """As `keras.Model.test_on_batch`; refuses what `evaluate` refuses."""
        self._check_arrays(x, y)
        logs = super().test_on_batch(x, y, *args, **kwargs)
        self._check_extremes()
        return logs

    def predict(self, *args: Any, **kwargs: Any) -> np.ndarray:
        """As `keras.Model.predict`; refuses images that `evaluate` refuses."""
        result = super().predict(*args, **kwargs)
        self._check_extremes()
        return result

    def predict_on_batch(self, x: Array) -> np.ndarray:
        """As `keras.Model.predict_on_batch`; refuses images that `evaluate` refuses."""
        result = super().predict_on_batch(x)
        self._check_extremes()
        return result

    def _check_arrays(self, x: Data, y: Array | None) -> None:
        """Checks arrays and eager tensors; other containers are looked at batch by batch."""
        for part, what in ((x, "images"), (y, "labels")):
            if isinstance(part, list | tuple | dict):
                raise UserError(
                    f"The {what} come as one array. Received: a {type(part).__name__} of "
                    f"{len(part)}. Pass one, for example by numpy.asarray({what})."
                )
        if not isinstance(x, np.ndarray | tf.Tensor) or not np.size(x) or len(x.shape) < 2:
            return
        if not self.compiled:
            return  # Keras says it
        self._look(x.shape[1:])
        check_array(self.pixel_range, np.asarray(x))
        if isinstance(y, np.ndarray | tf.Tensor) and np.size(y):
            self._labels.check_form(y)
            low, high, odd = (float(value) for value in self._labels.extremes(tf.constant(y)))
            self._labels.check_values(are_rows(y, self._labels.count), low, high, odd > 0)


@contextlib.contextmanager
def _told_of_single_images() -> Iterator[None]:
    """Says what to do about loaders whose single images Keras refuses before a step sees them."""
    try:
        yield
    except ValueError as error:
        if _SINGLE_IMAGES not in str(error):
            raise
        raise UserError(_image_by_image("a loader of single images")) from error


def _image_by_image(received: str) -> str:
    return (
        f"The data come image by image. Received: {received}. Put them into batches, for example "
        "by data.batch(32)."
    )


def _check_single(part: Batch, what: str) -> None:
    """Refuses batches with several tensors where one is expected."""
    if not isinstance(part, dict | list | tuple):
        return
    key = next(iter(part), 0) if isinstance(part, dict) else 0
    picked = f"x[{key!r}], y" if what == "images" else f"x, y[{key!r}]"
    raise UserError(
        f"The {what} come as one tensor. Received: batches with a {type(part).__name__} of "
        f"{len(part)}. Let the data yield (images, labels), for example by "
        f"data.map(lambda x, y: ({picked}))."
    )
