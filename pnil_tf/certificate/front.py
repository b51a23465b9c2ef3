"""The noise in front of a classifier, and what would void a certificate: each with its reason.

A proof holds for one arrangement: the image, fixed scaling, one `PNILLayer`, and behind it a
network that answers every noisy image by itself and always alike. Whatever is not known to be so
is refused.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.contract.checks import (
    OTHERS,
    check_among_draws,
    check_beside_others,
    check_each_alone,
    check_noise,
)
from pnil_tf.contract.classifier import Classifier, random_images
from pnil_tf.contract.trace import Trace, examples_within, traced_or_none
from pnil_tf.contract.training_calls import called_to_train
from pnil_tf.copying import as_graph
from pnil_tf.errors import UserError
from pnil_tf.keras_internals import (
    all_layers,
    answers_as_its_graph,
    is_stateful,
    takers,
)
from pnil_tf.layers import PNILLayer

# The layer computes in float32, in which its exponential is off by less than this.
_ROUNDING = 1e-5
# Up to which that is so: its logarithm is rounded by 2^-24 of the numbers it is a sum of.
_MOST_LOG_VARIANCE = 80.0
# Steps, as a share of the pixel range, to which scaling may round an image before the noise.
_COARSE = 1e-5
_RANDOM = (
    *("Random", "Multinomial", "TruncatedNormal", "Rng", "Dropout", "Sample", "Shuffle"),
    *("StatelessParameterized", "Gamma", "Poisson", "Binomial"),
)
_NOT_RANDOM = frozenset(("Digamma", "Lgamma", "Polygamma", "Igamma", "Igammac"))
_PYTHON = ("PyFunc",)
_TAKE_OUT = "Take the other random layers out, or see that they rest at inference"
_OF_STATE = frozenset(
    (
        *("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp"),
        *("ResourceScatterUpdate", "ResourceScatterAdd"),
    )
)
_HARMLESS = frozenset(
    (
        # They read weights,
        *("DisableCopyOnRead", "ReadVariableOp", "ResourceGather", "ResourceGatherNd"),
        *("VarHandleOp", "VarIsInitializedOp", "VariableShape"),
        # run functions, whose operations are looked at as well,
        *("Case", "If", "StatefulPartitionedCall", "While"),
        # or only stop or say something.
        *("Assert", "CheckNumerics", "CheckNumericsV2", "PrintV2"),
    )
)
# An image alone and among others may be added up in another order, even by TensorFloat-32.
_ALONE = 2e-3
_ALONE_IN_HALF = 0.02
_HALF = ("float16", "bfloat16")
_EXACT = ("float32", "float64")


@dataclasses.dataclass(frozen=True)
class FrontNoise:
    """The noise that one `PNILLayer` adds to images in [0, 1].

    Args:
        layer: The layer.
        scale: What an image in [0, 1] is multiplied with before it reaches the layer; of one
            number for each channel or for all.
        offset: What is added to it then.
    """

    layer: PNILLayer
    scale: np.ndarray
    offset: np.ndarray

    @property
    def fixed(self) -> bool:
        """Whether no image changes the noise: there is no `W`, or it is 0."""
        return self.layer.kernel is None or not np.any(self.layer.kernel.numpy())

    @property
    def method(self) -> str:
        """By which theorem it proves, one phrase."""
        if self.fixed:
            return "the same for every image (Cohen et al. 2019, each pixel by its own sigma)"
        return "moves with the image (Kullback-Leibler divergence)"

    def sigma(self, unit: np.ndarray) -> np.ndarray:
        """The standard deviation of the noise of each pixel, as if added to images in [0, 1].

        Args:
            unit: One image in [0, 1], `(height, width, channels)`.

        Returns:
            float64, shaped like it; smaller by what the layer's float32 may round.
        """
        slope, start = self.line()
        log_variance = start + slope * np.asarray(unit, np.float64)
        if self.layer.sigma_floor:
            log_variance = np.logaddexp(2.0 * np.log(self.layer.sigma_floor), log_variance)
        return np.asarray(self.factor() * np.exp(log_variance / 2.0))

    def line(self) -> tuple[np.ndarray, np.ndarray]:
        """Slope and start of the logarithm of the variance over pixels in [0, 1], without floor.

        Returns:
            Two float64 arrays, shaped like an image or of one number for each channel or for all.
        """
        pixels = self.layer.pixel_range
        kernel = self._kernel() / pixels.width
        return self.scale * kernel, (self.offset - pixels.low) * kernel + self._bias()

    def factor(self) -> np.ndarray:
        """What the layer's own sigma is multiplied with to be that of images in [0, 1].

        It is smaller by what the layer's float32 may round.
        """
        width = self.layer.pixel_range.width * (1.0 - _ROUNDING)
        return np.asarray(width / np.abs(self.scale))

    def slope(self) -> np.ndarray:
        """By how much the logarithm of a pixel's variance changes at most, per 1 in [0, 1].

        A floor below the noise only makes it change less.
        """
        slope, _ = self.line()
        return np.asarray(np.abs(slope) * (1.0 + _ROUNDING))

    def _kernel(self) -> np.ndarray:
        kernel = self.layer.kernel
        return np.zeros(()) if kernel is None else np.asarray(kernel.numpy(), np.float64)

    def _bias(self) -> np.ndarray:
        return np.asarray(self.layer.bias.numpy(), np.float64)


def noise_in_front(classifier: Classifier) -> FrontNoise:
    """Finds the noise in front of a classifier.

    Raises:
        UserError: If the classifier is not so arranged that its noise proves anything.
    """
    model = classifier.model
    graph = as_graph(model)
    if graph is None:
        shown = type(model).__name__ if isinstance(model, keras.Model) else "a function"
        raise _void(
            f"{shown} does not show how its layers are connected, so nothing says that all of the "
            "image passes through the noise",
            "Pass a Sequential or functional Keras model, or the run or .keras file of one; an "
            "export cannot be looked into",
        )
    if len(graph.inputs) != 1:
        raise _void(
            f"{graph.name!r} has {len(graph.inputs)} inputs, and noise on one says nothing of the "
            "others",
            "Pass a model of the images alone",
        )
    noisy = [layer for layer in all_layers(model) if isinstance(layer, PNILLayer)]
    if len(noisy) != 1:
        raise _void(
            f"{graph.name!r} has {len(noisy)} PNIL layers, and the proof is about exactly one",
            "Put one PNILLayer in front of the model, with add_pnil for example",
        )
    _check_own_call(model)
    pixels = classifier.pixel_range
    start = FrontNoise(noisy[0], np.asarray(pixels.width), np.asarray(pixels.low))
    found, passed = _walk(graph, start)
    if not found:
        raise _void("the image never passes through the noise layer", "Put it in front")
    _check_layer(passed.layer)
    _check_rounding(passed)
    _check_calls(model)
    _check_behind(classifier)
    return passed


def provable(classifier: Classifier, unit: np.ndarray) -> FrontNoise:
    """Finds the noise in front of a classifier, and tries the classifier on some images.

    Args:
        classifier: The classifier.
        unit: A few images in [0, 1], float32 `(n, height, width, channels)`, n >= 1. Random
            ones are added, so that they may also be alike.

    Raises:
        UserError: If its noise proves nothing, it draws other noise, or its answer to an image
            depends on the others.
    """
    found = noise_in_front(classifier)
    trace = traced_or_none(classifier.predict, unit.shape[1:])
    few = examples_within(0 if trace is None else trace.values)
    unit = np.concatenate([unit[:few], random_images(unit.shape[1:])])
    if check_noise(classifier, unit):
        raise _void("the network behind the noise is random itself", _TAKE_OUT)
    _check_noise_hides(classifier, found, unit)
    check_beside_others(classifier, unit)
    _check_each_alone(classifier, unit)
    return found


def check_passes(classifier: Classifier, unit: np.ndarray, size: int) -> None:
    """Tries a classifier once more, on as many images as share a pass when its draws are counted.

    A network might mix its images in large batches alone, or where they are alike.

    Args:
        classifier: A classifier that is `provable`.
        unit: A few images in [0, 1], float32 `(n, height, width, channels)`, n >= 1.
        size: Images in a pass.

    Raises:
        UserError: If the answer to an image depends on the others of a batch of that size.
    """
    few = np.concatenate([unit, random_images(unit.shape[1:])])
    many = np.resize(few, (size, *unit.shape[1:]))  # over and over
    if size > OTHERS:
        check_beside_others(classifier, many[: size - OTHERS])
    _check_each_alone(classifier, many)
    del many
    check_among_draws(classifier, few[[0, -1]], size)


def _check_each_alone(classifier: Classifier, unit: np.ndarray) -> None:
    if not check_each_alone(classifier, unit, _tolerance(classifier), in_graph=True):
        raise _void(
            "the network cannot be asked about one image alone, so that nothing tells whether it "
            "answers each by itself",
            "Let it take batches of any size",
        )


def _tolerance(classifier: Classifier) -> float:
    """By how much an answer may change with the size of a batch, as a share of the spread."""
    half = any(layer.compute_dtype in _HALF for layer in all_layers(classifier.model))
    return _ALONE_IN_HALF if half else _ALONE


def _walk(graph: keras.Model, seen: FrontNoise) -> tuple[bool, FrontNoise]:
    """Follows the image until the noise; whether it came there, and how it was scaled."""
    (tensor,) = graph.inputs
    if keras.backend.standardize_dtype(tensor.dtype) not in _EXACT:
        raise _void(
            f"the model's input has the type {tensor.dtype}, so that images are rounded before "
            "the noise",
            "Give it an Input of float32",
        )
    while tensor is not graph.outputs[0]:
        after = takers(graph, tensor)
        if len(after) != 1:
            names = ", ".join(repr(operation.name) for operation, _ in after)
            raise _void(
                f"the image takes several ways, by {names}, and not all go through the noise",
                "Let the noise layer alone see the image",
            )
        operation, results = after[0]
        if operation is seen.layer:
            return True, seen
        inner = as_graph(operation)
        if inner is not None and len(inner.inputs) == 1 and len(inner.outputs) == 1:
            _check_own_call(operation)
            found, seen = _walk(inner, seen)
            if found:
                return True, seen
        else:
            seen = _scaled(operation, tensor.shape, seen)
        (tensor,) = results
    return False, seen


def _check_own_call(model: keras.Model) -> None:
    if not answers_as_its_graph(model):
        raise _void(
            f"{model.name!r} is a {type(model).__name__}, a class with a call of its own, which "
            "may show the network the image beside the noise",
            "Pass a Sequential or functional model that is no subclass",
        )


def _scaled(layer: Any, shape: tuple[int | None, ...], seen: FrontNoise) -> FrontNoise:
    """What a layer of fixed scaling makes of the image.

    Raises:
        UserError: If it is none.
    """
    if type(layer) is keras.layers.Rescaling:
        scale, offset = np.asarray(layer.scale), np.asarray(layer.offset)
    elif type(layer) is keras.layers.Normalization:
        if layer.invert:
            raise _void(
                f"{layer.name!r} undoes a scaling (invert=True) in front of the noise",
                "Use Rescaling with the same numbers",
            )
        if any(axis % len(shape) != len(shape) - 1 for axis in layer.axis):
            raise _void(
                f"{layer.name!r} scales the pixels along the axes {layer.axis}, not each channel "
                "by one number",
                "Use Normalization with axis=-1 or axis=None",
            )
        deviation = np.maximum(np.sqrt(np.asarray(layer.variance)), keras.backend.epsilon())
        # Of the shape (1, 1, 1, channels), as it is broadcast over a batch.
        scale, mean = (np.squeeze(value) for value in (1.0 / deviation, np.asarray(layer.mean)))
        offset = -mean * scale
    else:
        raise _void(
            f"{layer.name!r} ({type(layer).__name__}) stands in front of the noise, and only "
            "fixed scaling (Rescaling, Normalization) may",
            "Put the PNILLayer before it",
        )
    _check_precision(layer)
    if not np.all(np.isfinite(scale)) or np.any(scale == 0) or max(scale.ndim, offset.ndim) > 1:
        raise _void(
            f"{layer.name!r} scales the pixels by 0, or not by one number for each channel",
            "Scale by numbers other than 0, one for all pixels or one for each channel",
        )
    scale = np.asarray(scale, np.float64)
    images = random_images(shape[1:])
    expected, scaled = images * scale + offset, np.asarray(layer(images))
    # Broadcasting would make noisy copies of a pixel, and Keras may take another axis for that
    # of the channels.
    if scaled.shape != images.shape or not np.allclose(
        scaled, expected, rtol=1e-4, atol=1e-5 * float(np.abs(expected).max())
    ):
        raise _void(
            f"{layer.name!r} makes of images {images.shape[1:]} others {scaled.shape[1:]}, not by "
            "one number for each channel",
            "Scale all pixels by one number, or each channel of the images by one",
        )
    after = dataclasses.replace(
        seen, scale=seen.scale * scale, offset=seen.offset * scale + np.asarray(offset, np.float64)
    )
    ends = seen.offset, seen.offset + seen.scale
    # Of the pixels multiplied, before the offset is added, and of what comes out.
    reached = [end * scale for end in ends] + [after.offset, after.offset + after.scale]
    largest = np.max(np.abs(np.broadcast_arrays(*reached)), axis=0)
    if np.any(np.spacing(largest.astype(np.float32)) > _COARSE * np.abs(after.scale)):
        raise _void(
            f"{layer.name!r} makes numbers as large as {largest.max():.3g} of the pixels, and "
            "float32 rounds the image to steps that count before the noise hides them",
            "Scale the pixels to a range near 0",
        )
    return after


def _check_layer(layer: PNILLayer) -> None:
    if type(layer) is not PNILLayer:
        raise _void(
            f"{layer.name!r} is a {type(layer).__name__}, a layer of your own on top of PNILLayer, "
            "whose noise may be another one",
            "Use PNILLayer itself",
        )
    if layer.from_context is not None:
        raise _void(
            f"the noise of {layer.name!r} is computed by a layer of its own (log_variance), and "
            "nothing bounds how fast it changes with the image",
            "Use PNILLayer without log_variance",
        )
    if not layer.noise_at_inference:
        raise _void(
            f"the noise of {layer.name!r} is switched off at inference",
            "Train with noise_at_inference=True",
        )
    if not all(np.isfinite(weight).all() for weight in layer.get_weights()):
        raise _void(
            f"the noise of {layer.name!r} has no size: its weights are not finite", "Retrain it"
        )
    _check_precision(layer)


def _check_rounding(found: FrontNoise) -> None:
    most = sum(float(np.abs(part).max()) for part in found.line())
    if most > _MOST_LOG_VARIANCE:
        raise _void(
            f"the logarithm of the noise's variance is a sum of numbers as large as {most:.3g}, "
            "and float32 rounds its exponential by more than the proof allows for",
            "Retrain it with a sigma_floor, or with a penalty on its weights",
        )


def _check_precision(layer: Any) -> None:
    if layer.compute_dtype not in _EXACT:
        raise _void(
            f"{layer.name!r} computes in {layer.compute_dtype}, which rounds the image before the "
            "noise",
            "Give it dtype='float32'; the network behind may keep its own",
        )


def _check_calls(model: keras.Model) -> None:
    """Refuses layers that are called with `training=True` once and for all.

    `predict` and an export call the model with `training=False`, which wins over that; a plain
    `model(x)` does not, and would answer otherwise than what is proved.
    """
    for name in called_to_train(model) or ():
        raise _void(
            f"{name} is called with training=True, as it was built or by its own default, so that "
            "model(x) answers differently from model.predict(x)",
            "Leave the layer out, or build the model with training=False in its call",
        )


def _check_behind(classifier: Classifier) -> None:
    """Refuses a network that is random or changes, by the operations of its graph."""
    calls: list[int] = []

    def noise(shape: Any, call: int) -> Any:
        calls.append(call)
        return keras.ops.zeros(shape)

    def predict(images: Any) -> Any:
        with rng.noise_from(noise):
            return classifier.predict(images)

    trace = traced_or_none(predict, classifier.image_shape)
    if trace is None or not classifier.in_graph:
        raise _void(
            "TensorFlow cannot trace the model, so that nothing says what it does in Python",
            "Build it of Keras' layers and operations",
        )
    if len(calls) != 1:
        raise _void(
            f"the noise layer is called {len(calls)} times for one image, and the proof is about "
            "one call",
            "Give every place a layer of its own, and PNIL the front",
        )
    operations = _operations(trace)
    for name in sorted(operations - _NOT_RANDOM):
        if any(part in name for part in _RANDOM):
            raise _void(
                f"the network behind the noise is random itself (the operation {name})",
                _TAKE_OUT,
            )
        if any(part in name for part in _PYTHON):
            raise _void(
                f"the network runs Python code of its own (the operation {name}), which could be "
                "random or remember earlier images",
                "Build it of Keras' layers and operations",
            )
    changed = sorted(operations & _OF_STATE)
    if changed:
        raise _void(
            f"the network changes itself while it answers (the operation {changed[0]})",
            "Look for layers that are called with training=True, or that count",
        )
    for name in sorted(operations - _HARMLESS):
        if is_stateful(name):
            raise _void(
                f"the network does what may come out otherwise the next time (the operation "
                f"{name})",
                "Build it of operations that depend on their inputs and the weights alone",
            )
    if _trains_statistics(trace):
        raise _void(
            "the network uses the statistics of the batch at inference",
            "Look for BatchNormalization called with training=True",
        )


def _check_noise_hides(classifier: Classifier, found: FrontNoise, unit: np.ndarray) -> None:
    """Refuses a classifier that sees the image otherwise than through the noise.

    Noise that carries every image to one point must leave the answers that this point has. If it
    does not, another way leads around the noise, or its size is not the one that is known of it.
    """
    (point,) = random_images(unit.shape[1:], 1)
    sigma = np.stack([found.sigma(image) for image in unit])
    # Where the scaling in front turns pixels round, the noise goes the other way.
    to_point = tf.constant((point - unit) / (sigma * np.sign(found.scale)), tf.float32)
    with rng.noise_from(lambda shape, call: to_point):
        hidden = classifier.predict(unit).numpy()
    with rng.noise_off():
        usual = classifier.predict(unit).numpy()
        expected = classifier.predict(np.repeat(point[np.newaxis], len(unit), axis=0)).numpy()
    if not np.isfinite(expected).all():
        raise _void(
            "its answer to an image of random pixels is NaN or infinite, so that nothing shows "
            "whether the noise hides the image from it",
            "Find what makes it so",
        )
    usual = np.where(np.isfinite(usual), usual, expected)  # some images may have no answer
    # Honest networks differ by some millionths of the spread, in bfloat16 by 1e-4. What all logits
    # share (a large bias) says nothing; of so small a share of it float32 cannot tell.
    size = max(float(np.ptp(usual)), 1e-4 * float(np.abs(usual).max()), 1e-30)
    if not np.abs(hidden - expected).max() <= _tolerance(classifier) * size:
        raise _void(
            "its answers tell images apart that the noise has made alike, so that the network sees "
            "the image beside the noise, or other noise than it seems",
            "Let the noise layer alone see the image",
        )


def _operations(trace: Trace) -> set[str]:
    functions = {one.signature.name for one in trace.graph.as_graph_def().library.function}
    return {node.op for node in _nodes(trace)} - functions  # those may be called by their names


def _trains_statistics(trace: Trace) -> bool:
    return any(
        node.op.startswith("FusedBatchNorm") and node.attr["is_training"].b
        for node in _nodes(trace)
    )


def _nodes(trace: Trace) -> list[Any]:
    definition = trace.graph.as_graph_def()
    inside = [node for function in definition.library.function for node in function.node_def]
    return [*definition.node, *inside]


def _void(why: str, what_to_do: str) -> UserError:
    return UserError(f"Nothing can be proved of this model: {why}. {what_to_do}.")
