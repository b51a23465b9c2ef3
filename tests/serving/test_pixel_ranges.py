"""A model says the same in Keras, in the evaluation, exported, and served from files."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from served_models import SHAPE, load, noise_layer

from pnil_tf import rng
from pnil_tf.contract.pixel_range import BYTES, SIGNED, UNIT
from pnil_tf.errors import UserError
from pnil_tf.evaluation.target import as_target
from pnil_tf.runs.load import load_model
from pnil_tf.serving.onnx_model import export_onnx
from pnil_tf.serving.saved_model import export_saved_model
from pnil_tf.training.model import AdversarialModel

D = keras.layers
PIXELS = np.random.default_rng(0).integers(0, 256, (6, *SHAPE)).astype(np.uint8)


def model(*first, outputs=3, activation=None):
    return keras.Sequential(
        [keras.Input(SHAPE), *first, D.Flatten(), D.Dense(outputs, activation=activation)]
    )


# For each: the model, what is said of its pixels, and the pixels that it takes.
MODELS = {
    "unit": (lambda: model(), {}, UNIT),
    "bytes": (lambda: model(D.Rescaling(1 / 255), activation="softmax"), {}, BYTES),
    "bytes to signed": (lambda: model(D.Rescaling(1 / 127.5, -1.0)), {}, BYTES),
    "signed": (lambda: model(), {"pixel_range": (-1, 1)}, SIGNED),
    "one logit": (lambda: model(outputs=1), {}, UNIT),
    "one probability": (
        lambda: model(D.Rescaling(1 / 255), outputs=1, activation="sigmoid"),
        {},
        BYTES,
    ),
}


def answers(keras_model, pixels):
    """The probability of every class, as Keras says it."""
    outputs = keras_model.predict(pixels, verbose=0)
    activation = keras_model.layers[-1].activation.__name__
    if outputs.shape[1] == 1:
        p = outputs if activation == "sigmoid" else 1 / (1 + np.exp(-outputs))
        return np.concatenate([1 - p, p], axis=1)
    return outputs if activation == "softmax" else tf.nn.softmax(outputs).numpy()


@pytest.mark.parametrize("name", MODELS)
def test_the_same_answer_everywhere(name, tmp_path):
    make, said, pixel_range = MODELS[name]
    keras_model = make()
    own = pixel_range.from_unit(PIXELS / np.float32(255))
    expected = answers(keras_model, own)

    target = as_target(keras_model, PIXELS / np.float32(255), **said)
    assert target.pixel_range == pixel_range
    evaluated = tf.nn.softmax(target.predict(tf.constant(PIXELS / np.float32(255))))
    np.testing.assert_allclose(evaluated, expected, rtol=1e-3, atol=1e-5)

    path = export_saved_model(keras_model, tmp_path / "1", **said)
    served = load(path)
    files = tf.stack([tf.io.encode_png(image) for image in PIXELS])
    for answer in (
        served["serving_default"](images=tf.constant(own)),
        served["serving_uint8"](images=tf.constant(PIXELS)),
        served["serving_bytes"](image_bytes=files),
    ):
        np.testing.assert_allclose(answer["probabilities"], expected, rtol=1e-3, atol=1e-5)
        np.testing.assert_array_equal(answer["class"], expected.argmax(axis=1))
    summary = served["monte_carlo"](images=tf.constant(own), draws=tf.constant(2))
    np.testing.assert_allclose(summary["mean_probabilities"], expected, rtol=1e-3, atol=1e-5)

    steps = json.loads((path / "assets" / "preprocessing.json").read_text())
    assert steps["pixel_range"] == [pixel_range.low, pixel_range.high]
    card = (path / "model_card.md").read_text().replace("\\", "")
    assert f"takes pixels in {pixel_range}" in card

    loaded = load_model(path)
    assert loaded.pixel_range == pixel_range
    again = as_target(loaded.model, PIXELS / np.float32(255), pixel_range=loaded.pixel_range)
    np.testing.assert_allclose(
        tf.nn.softmax(again.predict(tf.constant(PIXELS / np.float32(255)))),
        expected,
        rtol=1e-3,
        atol=1e-5,
    )


@pytest.mark.parametrize("name", ["bytes", "one probability", "signed"])
def test_onnx_takes_the_models_own_pixels(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    make, said, pixel_range = MODELS[name]
    keras_model = make()
    path = export_onnx(keras_model, tmp_path / "1", **said)
    session = onnxruntime.InferenceSession(
        str(path / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    own = pixel_range.from_unit(PIXELS / np.float32(255))
    (found,) = session.run(["probabilities"], {"images": own.astype(np.float32)})
    np.testing.assert_allclose(found, answers(keras_model, own), rtol=1e-3, atol=1e-5)


def test_a_wrapper_exports_with_its_range_and_its_noise(tmp_path):
    classifier = model(noise_layer(20.0), D.Rescaling(1 / 255))
    wrapper = AdversarialModel(classifier, "fgsm", 8 / 255)
    served = load(export_saved_model(wrapper, tmp_path / "1"))
    seed = tf.constant(7, tf.int64)
    found = served["seeded"](images=tf.constant(PIXELS, tf.float32), seed=seed)["logits"]
    with rng.noise_scope(7, frozen=True):
        expected = classifier(PIXELS.astype(np.float32), training=False)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def unclear():
    return model(D.BatchNormalization())


def test_a_range_that_cannot_be_known_must_be_said(tmp_path):
    with pytest.raises(UserError, match=r"does not tell their range.*Pass it: \(0, 255\)"):
        export_saved_model(unclear(), tmp_path / "1")
    path = export_saved_model(unclear(), tmp_path / "1", pixel_range=(0, 255))
    assert "pixels in \\[0, 255\\];" in (path / "model_card.md").read_text()


@pytest.mark.parametrize("said", [{}, {"pixel_range": (0, 1)}], ids=["assumed", "said"])
def test_the_card_says_when_the_range_is_an_assumption(said, tmp_path):
    path = export_saved_model(model(), tmp_path / "1", **said)
    assert ("(assumed" in (path / "model_card.md").read_text()) == (not said)
    steps = json.loads((path / "assets" / "preprocessing.json").read_text())
    assert steps["pixel_range_assumed"] == (not said)


def test_a_training_has_checked_the_range(tmp_path):
    wrapper = AdversarialModel(unclear(), "fgsm", 0.1)
    wrapper.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(UserError, match="does not tell their range"):
        export_saved_model(wrapper, tmp_path / "1")
    wrapper.fit(PIXELS / np.float32(255), np.arange(6) % 3, verbose=0)
    path = export_saved_model(wrapper, tmp_path / "1")
    assert "(assumed" not in (path / "model_card.md").read_text()
