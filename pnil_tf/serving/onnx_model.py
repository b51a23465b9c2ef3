"""Classifiers as ONNX models, with their noise where ONNX can express it."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.checksums import write_checksums
from pnil_tf.contract.pixel_range import PixelRangeLike
from pnil_tf.errors import RunFailedError, UserError
from pnil_tf.files import replacing_folder, write_text
from pnil_tf.interpreter import run_code
from pnil_tf.serving.card import model_card
from pnil_tf.serving.record import Record
from pnil_tf.serving.saved_model import (
    CARD,
    check_class_names,
    check_output,
    completed,
    write_descriptions,
)
from pnil_tf.serving.signatures import (
    ANSWER,
    Servable,
    answer,
    descriptions,
    servable,
    without_unusable,
)

MODEL = "model.onnx"
OUTPUTS = ["logits", "probabilities", "class"]
_OPSET = 17
_IMAGES, _DRAWS = 4, 256
_BATCH = 32
_TOLERANCE = 1e-3

_INSIDE = (
    "The model adds noise to what it sees, drawn by the runtime afresh at every call. onnxruntime "
    "seeds it by the clock when a process starts, and all its sessions in one process draw the "
    "same: load the model once in a process, and rather serve the SavedModel, whose noise comes "
    "from the system's entropy, to whoever may be an attacker."
)
_INPUT = (
    "The model adds the noise that its caller draws: standard normal numbers for the inputs "
    "`noise_0`, `noise_1` and so on. Draw them afresh for every call and from a generator that "
    "nobody can foresee: who knows the noise can attack the model as if it had none."
)

logger = logging.getLogger(__name__)


def export_onnx(
    model: Any,
    path: str | Path,
    *,
    class_names: Sequence[str] = (),
    resized: bool = False,
    image_shape: tuple[int, int, int] | None = None,
    pixel_range: PixelRangeLike | None = None,
    outputs: str | None = None,
    noise_as_input: bool = False,
    overwrite: bool = False,
    record: Record | None = None,
) -> Path:
    """Writes a classifier as an ONNX model, and checks it in onnxruntime.

    The folder holds `model.onnx`: from `images`, float32 `(batch, height, width, channels)` in
    the model's pixel range, to `logits`, `probabilities` and `class`; further `class_names.json`,
    `preprocessing.json`, `SHA256SUMS` and `model_card.md`. Where ONNX cannot express the noise,
    that is logged as an error, and the variant with the noise as an input is written.

    Args:
        model: As for `export_saved_model`.
        path: The folder to write.
        class_names: One name per class, in the order of the logits; none if unknown.
        resized: Whether training resized images; `preprocessing.json` says so.
        image_shape: `(height, width, channels)`, needed where the model leaves it open.
        pixel_range: As for `export_saved_model`.
        noise_as_input: Whether the noise of every `PNILLayer` becomes an input (`noise_0`, ...;
            standard normal, in the shape of the layer's input) instead of being drawn within.
        outputs: What the model answers, one of `pnil_tf.contract.outputs.KINDS`, where it leaves
            that open.
        overwrite: Whether an export at `path` is replaced.
        record: What else the model card says.

    Returns:
        `path`.

    Raises:
        UserError: If the extra `onnx` is missing, the model cannot be served or converted, the
            names do not fit its classes, or `path` is taken.
    """
    path = Path(path)
    check_output(path, overwrite, MODEL)
    _tools()
    record = completed(record, class_names, resized)
    classifier = servable(model, image_shape, pixel_range, outputs)
    check_class_names(classifier, record)
    if classifier.target.stochastic != classifier.target.noise_is_ours:
        raise UserError(
            "ONNX gets the noise of PNIL layers alone. Received: a model with random layers of "
            "another kind. Serve a SavedModel instead."
        )
    if noise_as_input and not classifier.target.stochastic:
        raise UserError(
            "The noise of PNIL layers can become an input. Received: a model without. Export it "
            "as it is."
        )
    with replacing_folder(path) as folder:
        if not noise_as_input:
            try:
                _write_with_noise(classifier, folder / MODEL)
            except RunFailedError as error:
                if not classifier.target.stochastic:
                    raise UserError(f"{error} Serve a SavedModel instead.") from error
                logger.error("%s Its noise becomes an input instead.", error)
                noise_as_input = True
        inputs, _ = descriptions(classifier)["serving_default"]
        if noise_as_input:
            shapes = _write_with_noise_input(classifier, folder / MODEL)
            inputs += "".join(f", `{_name(i)}` (batch, {_by(s)})" for i, s in enumerate(shapes))
        write_descriptions(folder, classifier, record)
        noise = (_INPUT if noise_as_input else _INSIDE) if classifier.target.stochastic else None
        card = model_card(classifier, record, {MODEL: (inputs, ANSWER)}, noise)
        write_text(folder / CARD, card)
        write_checksums(folder, skip=(CARD,))
    return path


def _tools() -> tuple[ModuleType, ModuleType, ModuleType]:
    try:
        import onnx
        import onnxruntime
        import tf2onnx
    except ImportError as error:
        raise UserError(
            f"ONNX needs packages of its own, and {error.name!r} is missing. Install them with "
            "pip install 'pnil_tf[onnx]'."
        ) from error
    return onnx, onnxruntime, tf2onnx


def _write_with_noise(classifier: Servable, file: Path) -> None:
    """Writes the model that draws its noise itself.

    Raises:
        RunFailedError: If it cannot be converted, or is not the same model.
    """

    def call(images: Any) -> dict[str, Any]:
        with rng.noise_from(_drawn_within):
            return _answer(classifier, images)

    _convert(call, [_images_spec(classifier)], file)
    images = _some_images(classifier)
    draws = _DRAWS if classifier.target.stochastic else 1
    session = _session(file)
    found = _draws(lambda many: _run(session, images=many)["probabilities"], images, draws)
    own = _draws(
        lambda many: answer(classifier.predict(tf.constant(many)))["probabilities"],
        images,
        draws,
    )
    error = np.sqrt((found.var(axis=0) + own.var(axis=0)) / draws)
    # Six standard errors: a right export fails by chance once in a million.
    if (np.abs(found.mean(axis=0) - own.mean(axis=0)) > 6 * error + _TOLERANCE).any():
        raise RunFailedError("The ONNX model's mean probabilities are not the model's.")
    if classifier.target.stochastic:
        _check_fresh(file, images)


def _draws(probabilities: Callable[[np.ndarray], Any], images: np.ndarray, draws: int) -> Any:
    """Returns `(draws, images, classes)`, going through all in batches that fit into memory."""
    at_once = min(draws, _BATCH // len(images))
    many = np.tile(images, (at_once, *[1] * (images.ndim - 1)))
    parts = [np.asarray(probabilities(many)) for _ in range(draws // at_once)]
    return np.concatenate(parts).reshape(draws, len(images), -1)


def _drawn_within(shape: Any, call: int) -> Any:
    # With one seed, the converter would take all layers' noise for the same and draw it once.
    return tf.raw_ops.RandomStandardNormal(shape=shape, dtype=tf.float32, seed=0, seed2=call + 1)


def _check_fresh(file: Path, images: np.ndarray) -> None:
    # A process of its own: all sessions of one process draw the same.
    script = (
        "import sys; import numpy, onnxruntime; model, file = sys.argv[1:]; "
        "session = onnxruntime.InferenceSession(model, providers=['CPUExecutionProvider']); "
        "images = numpy.load(file, allow_pickle=False); "
        "numpy.save(file, session.run(['logits'], {'images': images})[0])"
    )
    # Not in the export's folder: whatever fails here, nothing may be left there.
    with tempfile.TemporaryDirectory() as folder:
        elsewhere = Path(folder) / "elsewhere.npy"
        np.save(elsewhere, images, allow_pickle=False)
        command = run_code(script, str(file), str(elsewhere))
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise RunFailedError(f"The ONNX model cannot be run ({result.stderr.strip()[-300:]}).")
        others = np.load(elsewhere, allow_pickle=False)
    if np.allclose(_run(_session(file), images=images)["logits"], others):
        raise RunFailedError("The ONNX model repeats its noise in every process.")


def _write_with_noise_input(classifier: Servable, file: Path) -> list[tuple[int, ...]]:
    """Writes the model whose noise is an input, and returns the shapes of one image's noise."""
    images = _some_images(classifier)
    shapes: list[tuple[int, ...]] = []

    def note(shape: Any, call: int) -> Any:
        shapes.append(tuple(int(size) for size in shape[1:]))
        return tf.zeros(shape)

    with rng.noise_from(note):
        classifier.predict(tf.constant(images))

    def call(images: Any, *noise: Any) -> dict[str, Any]:
        with rng.noise_from(lambda shape, call: tf.reshape(noise[call], shape)):
            return _answer(classifier, images)

    specs = [
        tf.TensorSpec([None, *shape], tf.float32, name=_name(i)) for i, shape in enumerate(shapes)
    ]
    try:
        _convert(call, [_images_spec(classifier), *specs], file)
        generator = np.random.default_rng(1)
        noise = [generator.standard_normal((_IMAGES, *s)).astype(np.float32) for s in shapes]
        found = _run(_session(file), images=images, **{_name(i): n for i, n in enumerate(noise)})
    except RunFailedError as error:
        raise UserError(f"{error} Serve a SavedModel instead.") from error
    expected = call(tf.constant(images), *map(tf.constant, noise))["logits"].numpy()
    if not np.allclose(found["logits"], expected, _TOLERANCE, _TOLERANCE):
        raise RunFailedError("The ONNX model's logits are not the model's. Serve a SavedModel.")
    return shapes


def _answer(classifier: Servable, images: Any) -> dict[str, Any]:
    return answer(without_unusable(classifier.predict(images), classifier.usable(images)))


def _convert(call: Any, specs: list[Any], file: Path) -> None:
    onnx, _, tf2onnx = _tools()
    try:
        function = tf.function(call, input_signature=specs)
        proto, _ = tf2onnx.convert.from_function(function, specs, opset=_OPSET)
    except Exception as error:  # whatever a converter may stumble over
        reason = " ".join(str(error).split())[:300]
        raise RunFailedError(f"The model cannot be converted to ONNX ({reason}).") from error
    for node in proto.graph.node:
        # A seed, were it even TensorFlow's 0 for none, would repeat the noise in every process.
        kept = [a for a in node.attribute if a.name != "seed"]
        del node.attribute[:]
        node.attribute.extend(kept)
    onnx.save(proto, str(file))


def _session(file: Path) -> Any:
    _, onnxruntime, _ = _tools()
    with _failures():
        return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


def _run(session: Any, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    with _failures():
        return dict(zip(OUTPUTS, session.run(OUTPUTS, inputs), strict=True))


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # onnxruntime's errors have no common class
        reason = " ".join(str(error).split())[:300]
        raise RunFailedError(f"The converted ONNX model does not run ({reason}).") from error


def _some_images(classifier: Servable) -> np.ndarray:
    shape = (_IMAGES, *classifier.image_shape)
    return np.asarray(
        classifier.pixel_range.from_unit(np.random.default_rng(0).random(shape, np.float32))
    )


def _images_spec(classifier: Servable) -> Any:
    return tf.TensorSpec([None, *classifier.image_shape], tf.float32, name="images")


def _name(number: int) -> str:
    return f"noise_{number}"


def _by(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
