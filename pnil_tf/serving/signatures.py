"""The functions that an exported classifier offers, by the names under which servers call them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.certificate.front import FrontNoise, check_passes, provable
from pnil_tf.certificate.in_graph import Radii, radii_of
from pnil_tf.contract.classifier import image_shape_of
from pnil_tf.contract.outputs import INDEPENDENT
from pnil_tf.contract.pixel_range import BYTES, PixelRange, PixelRangeLike
from pnil_tf.errors import UserError, argument
from pnil_tf.evaluation.target import Target, as_target, range_is_known, with_terms
from pnil_tf.serving.certified import MOST_DRAWS, certified, most_at_once
from pnil_tf.serving.decoding import DECODABLE_CHANNELS, MAX_PIXELS, decode
from pnil_tf.serving.monte_carlo import MAX_DRAWS, decided, monte_carlo

ANSWER = "`logits`, `probabilities` (float32, one per class), `class` (int64)"
"""What one draw answers, in words."""
_SUMMARY = (
    "`mean_probabilities`, `standard_deviation` (float32, one per class), "
    "`predictive_entropy` (nats), `class` (of most draws), `agreement` (share of draws that choose "
    "it)"
)
_PROVED = (
    "`class` (int64, -1 where none is proved), `radius_linf`, `radius_l2` (shares of the pixel "
    "range), `p_low`, float64"
)


def descriptions(classifier: Servable) -> dict[str, tuple[str, str]]:
    """For each signature that there may be its inputs and its outputs in words."""
    pixels = classifier.pixel_range
    return {
        "serving_default": (f"`images` float32 in {pixels}, the model's own pixels", ANSWER),
        "serving_uint8": ("`images` uint8, 0 to 255", ANSWER),
        "serving_bytes": (
            f"`image_bytes`, PNG or JPEG files of at most {MAX_PIXELS:,} pixels",
            ANSWER,
        ),
        "monte_carlo": (f"`images` as above, `draws` int32 from 1 to {MAX_DRAWS:,}", _SUMMARY),
        "certified": (f"`images` as above, `draws` int32 from 1 to {MOST_DRAWS:,}", _PROVED),
        "seeded": ("`images` as above, `seed` int64, at least 0", ANSWER),
        "monte_carlo_seeded": ("`images`, `draws`, `seed` as above", _SUMMARY),
    }


@dataclasses.dataclass(frozen=True)
class Servable:
    """A Keras classifier, looked at and found fit for serving.

    Args:
        model: The classifier.
        target: The same as logits with the noise at hand.
        image_shape: `(height, width, channels)` of the images it takes.
        range_assumed: Whether nothing told the pixel range, and it is the usual one.
    """

    model: keras.Model
    target: Target
    image_shape: tuple[int, int, int]
    range_assumed: bool = False

    @property
    def pixel_range(self) -> PixelRange:
        """The pixels that it takes."""
        return self.target.pixel_range

    @functools.cached_property
    def noise_in_front(self) -> FrontNoise | UserError:
        """The noise by which its answers can be proved, or why they cannot."""
        unit = np.random.default_rng(2).random((2, *self.image_shape), np.float32)
        try:
            found = provable(self.target.classifier, unit)
            check_passes(self.target.classifier, unit, most_at_once(self.image_shape))
        except UserError as error:
            return error
        return found

    def predict(self, images: Any) -> Any:
        """Returns float32 logits `(batch, classes)`, with the noise that its surroundings decide.

        Args:
            images: float32 `(batch, height, width, channels)` in the model's pixel range.
        """
        classifier = self.target.classifier
        return classifier.outputs.per_class(classifier.logits(images))

    def usable(self, images: Any) -> Any:
        """Returns which images have pixels near enough to the range for a class, bool `(batch,)`.

        Audits probe just outside. What is farther off than the range is wide is an overflow or a
        mistake, which would have a class in one draw and none in another.
        """
        low, high, width = self.pixel_range.low, self.pixel_range.high, self.pixel_range.width
        # Neither holds for what is no number.
        near = (images >= low - width) & (images <= high + width)
        return tf.reduce_all(near, axis=[1, 2, 3])

    def of_bytes(self, pixels: Any) -> Any:
        """Returns uint8 images as the model takes them, float32."""
        pixels = tf.cast(pixels, tf.float32)
        if self.pixel_range == BYTES:
            return pixels
        return self.pixel_range.from_unit(pixels / 255.0)

    def logits(self, images: Any, seed: Any = None) -> Any:
        """Returns float32 logits `(batch, classes)`.

        Args:
            images: float32 `(batch, height, width, channels)` in the model's pixel range.
            seed: int32 seed pair of the noise, which is then the same for every image, whatever
                the batch; by default it is fresh at every run of the graph and in every process.
        """
        if not tf.executing_eagerly():
            # In an unseeded graph, layers outside this package draw afresh too: a seed that was
            # set globally while exporting must not become part of the model.
            tf.compat.v1.set_random_seed(None)
        if seed is not None:
            return self._seeded(images, seed)
        if not rng.has_random_layers(self.model):
            return self.predict(images)
        # Stock random layers know no fresh noise: they repeat from the state they are saved with.
        with rng.stateless_layers(self.model, rng.fresh_seed(), seeds_alone=True):
            return self.predict(images)

    def _seeded(self, images: Any, seed: Any) -> Any:
        def alone(image: Any) -> Any:
            with rng.noise_scope(seed):
                return self.predict(image[tf.newaxis])[0]

        if rng.has_random_layers(self.model):
            # Stock random layers draw for a batch at once, and for each place in it another noise.
            return tf.map_fn(alone, images, fn_output_signature=tf.float32)
        with rng.noise_scope(seed, frozen=True):
            return self.predict(images)


def servable(
    model: Any,
    image_shape: tuple[int, int, int] | None = None,
    pixel_range: PixelRangeLike | None = None,
    outputs: str | None = None,
) -> Servable:
    """Examines a classifier before it is exported.

    Args:
        model: A built Keras model or an `AdversarialModel`.
        image_shape: `(height, width, channels)`, needed where the model leaves it open.
        pixel_range: `(low, high)` of the pixels that it takes; by default as for `as_target`.
        outputs: As for `as_target`.

    Raises:
        UserError: If it is no Keras model, does not turn images of a known shape into one row
            of logits or probabilities each, does something to its pixels first that does not tell
            their range while none is given, or TensorFlow's op determinism is on.
    """
    range_known = range_is_known(model, pixel_range)
    # Once: an averaged classifier is a new copy at every call, with weights of its own.
    model, pixel_range, outputs = with_terms(model, pixel_range, outputs)
    if not isinstance(model, keras.Model):
        raise UserError(
            f"A keras.Model can be exported. Received: {type(model).__name__}. Put what you have "
            "into one."
        )
    if rng.op_determinism():
        raise UserError(
            "An exported model would repeat its noise in every process. Received: op determinism, "
            "switched on in this one. Export from a process without it."
        )
    if rng.in_noise_scope():
        raise UserError(
            "An exported model decides on its noise itself. Received: an export within a noise "
            "scope. Export outside of it."
        )
    _check_input(model)
    shape = image_shape or _image_shape(model)
    images = np.random.default_rng(0).random((2, *shape), np.float32)
    target = as_target(model, images, pixel_range=pixel_range, outputs=outputs)
    if target.outputs == INDEPENDENT:
        raise UserError(
            "An exported model gives one of several classes, by logits or probabilities. "
            f"Received: {model.name!r}, which ends in {target.num_classes} sigmoids, each a yes or "
            "no of its own. Give it one logit for each class."
        )
    assumed = target.classifier.found_range is None and not range_known
    if assumed and not target.classifier.preprocessing_understood:
        raise UserError(
            "What the model does to its pixels first does not tell their range. "
            f"Received: {model.name!r} and no {argument('pixel_range')}. Pass it: (0, 255) if the "
            "model was trained on bytes, (0, 1) if on bytes divided by 255."
        )
    return Servable(model, target, shape, assumed)


def without_unusable(logits: Any, good: Any) -> Any:
    """Returns logits `(batch, classes)` with NaN, and thus the class -1, where `good` is false."""
    # Some layers turn NaN into numbers, and with them into a class.
    return tf.where(good[:, tf.newaxis], logits, np.float32("nan"))


def answer(logits: Any) -> dict[str, Any]:
    """Returns `logits`, `probabilities` and `class` of float32 logits `(batch, classes)`."""
    probabilities = tf.nn.softmax(logits)
    return {"logits": logits, "probabilities": probabilities, "class": decided(probabilities)}


def build_signatures(classifier: Servable, resized: bool) -> dict[str, Any]:
    """Returns the signatures by name, as `tf.function`s.

    Args:
        classifier: What answers.
        resized: Whether `serving_bytes` resizes images, as training did.

    Shapes are checked when a request comes, since a convolution may end the server's process
    over a wrong one. Pixels are not: a request cannot be refused for one bad image without
    refusing those that a server put into the same batch, and audits probe just outside the range.
    An image that is not `usable`, and a file that is bad as for `decode`, has NaN logits and the
    class -1.
    """
    shape = classifier.image_shape
    images_spec = tf.TensorSpec([None, *shape], tf.float32, name="images")
    pixels = tf.TensorSpec([None, *shape], tf.uint8, name="images")
    files = tf.TensorSpec([None], tf.string, name="image_bytes")
    draws_spec = tf.TensorSpec([], tf.int32, name="draws")
    seed_spec = tf.TensorSpec([], tf.int64, name="seed")

    def logits(received: Any, seed: Any = None) -> Any:
        good = classifier.usable(received)
        found = classifier.logits(_at_least_one(received), seed)
        return without_unusable(found[: tf.size(good)], good)

    def serving_default(images: Any) -> dict[str, Any]:
        return answer(logits(_as(images_spec, images)))

    def serving_uint8(images: Any) -> dict[str, Any]:
        return answer(logits(classifier.of_bytes(_as(pixels, images))))

    def serving_bytes(image_bytes: Any) -> dict[str, Any]:
        decoded, good = decode(_as(files, image_bytes), shape, resized)
        return answer(without_unusable(logits(classifier.of_bytes(decoded)), good))

    def summary(images: Any, draws: Any, seed: Callable[[Any], Any]) -> dict[str, Any]:
        images = _as(images_spec, images)

        def draw(number: Any) -> Any:
            return tf.nn.softmax(logits(images, seed(number)))

        batch, classes = tf.shape(images)[0], classifier.target.num_classes
        return monte_carlo(draw, _as(draws_spec, draws), batch, classes)

    def many(images: Any, draws: Any) -> dict[str, Any]:
        return summary(images, draws, lambda number: None)

    def seeded(images: Any, seed: Any) -> dict[str, Any]:
        return answer(logits(_as(images_spec, images), _pair(_as(seed_spec, seed))))

    def many_seeded(images: Any, draws: Any, seed: Any) -> dict[str, Any]:
        pair = _pair(_as(seed_spec, seed))
        return summary(images, draws, lambda number: rng.fold(pair, number))

    functions: dict[str, tuple[Callable[..., Any], list[Any]]] = {
        "serving_default": (serving_default, [images_spec]),
        "serving_uint8": (serving_uint8, [pixels]),
    }
    if shape[-1] in DECODABLE_CHANNELS:
        functions["serving_bytes"] = (serving_bytes, [files])
    functions["monte_carlo"] = (many, [images_spec, draws_spec])
    front = classifier.noise_in_front
    if isinstance(front, FrontNoise):
        proved = functools.partial(_proved, classifier, radii_of(front, shape))
        functions["certified"] = (proved, [images_spec, draws_spec])
    if classifier.target.repeatable:
        functions["seeded"] = (seeded, [images_spec, seed_spec])
        functions["monte_carlo_seeded"] = (many_seeded, [images_spec, draws_spec, seed_spec])
    return {
        name: tf.function(function, input_signature=specs, autograph=False)
        for name, (function, specs) in functions.items()
    }


def _proved(classifier: Servable, radii: Radii, images: Any, draws: Any) -> dict[str, Any]:
    images = tf.ensure_shape(images, [None, *classifier.image_shape])
    count, images = tf.shape(images)[0], _at_least_one(images)
    found = certified(
        classifier.predict,
        radii,
        images,
        classifier.pixel_range.to_unit(tf.cast(images, tf.float64)),
        classifier.usable(images),
        tf.ensure_shape(draws, []),
        classifier.target.num_classes,
    )
    return {name: value[:count] for name, value in found.items()}


def _as(spec: Any, value: Any) -> Any:
    """Returns the value after its shape was checked in the graph; no caller has to."""
    return tf.ensure_shape(value, spec.shape)


def _at_least_one(images: Any) -> Any:
    """Returns the images; one where there is none, on which some convolutions fail."""
    none = tf.cast(tf.shape(images)[0] == 0, tf.int32)
    return tf.pad(images, [[0, none], [0, 0], [0, 0], [0, 0]])


def _pair(seed: Any) -> Any:
    known = tf.debugging.Assert(seed >= 0, ["The seed must be at least 0. Received:", seed])
    with tf.control_dependencies([known]):
        return rng.seed_of(tf.identity(seed))


def _check_input(model: keras.Model) -> None:
    for tensor in getattr(model, "inputs", None) or ():
        if not keras.backend.is_float_dtype(tensor.dtype):
            raise UserError(
                "An exported model takes pixels as floats. Received: "
                f"{model.name!r}, whose input is {tensor.dtype}. Put a float input before it that "
                "is scaled to what the model takes; `serving_uint8` is made from that."
            )


def _image_shape(model: keras.Model) -> tuple[int, int, int]:
    shape = image_shape_of(model)
    if len(shape) != 3 or None in shape:
        raise UserError(
            "An exported model takes images of one known shape (height, width, channels). "
            f"Received: {model.name!r}, whose images are {shape!r}. Pass image_shape."
        )
    height, width, channels = (int(size or 0) for size in shape)
    return height, width, channels
