"""Networks of keras.applications as classifiers: their pixels, their weights, what is refused."""

import json
import sys

import keras
import numpy as np
import pytest
from command import run
from jpeg_folder import write_jpegs

from pnil_tf import certify
from pnil_tf.backbones import _homes, backbone, check_backbone, kept_values, preprocessing
from pnil_tf.contract.classifier import classifier_of
from pnil_tf.contract.pixel_range import BYTES, SIGNED, UNIT
from pnil_tf.errors import UserError
from pnil_tf.keras_internals import all_layers
from pnil_tf.layers import PNILLayer
from pnil_tf.rng import noise_off
from pnil_tf.surgery import add_pnil
from pnil_tf.training.settings import ModelSettings

NAME = "keras_applications:MobileNetV2"
SMALLER = "keras_applications:MobileNet"
HOMES = {home.__name__: home for home in _homes().values()}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file as Keras keeps pretrained weights, with statistics that are not those of a start."""
    network = keras.applications.MobileNetV2((32, 32, 3), include_top=False, weights=None)
    generator = np.random.default_rng(0)
    network.set_weights([generator.uniform(0.5, 1.5, w.shape) for w in network.get_weights()])
    file = tmp_path_factory.mktemp("weights") / "mobilenet_v2_no_top.weights.h5"
    network.save_weights(file)
    return file


@pytest.mark.parametrize("pixel_range", [UNIT, BYTES, SIGNED])
@pytest.mark.parametrize("home", HOMES.values(), ids=HOMES)
def test_pixels_are_prepared_as_each_network_wants_them(home, pixel_range):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3)).astype(np.float32)
    x = np.asarray(pixel_range.from_unit(pixels / 255.0), np.float32)
    for step in preprocessing(home, pixel_range):
        x = step(x)
    np.testing.assert_allclose(x, home.preprocess_input(pixels.copy()), rtol=1e-4, atol=1e-3)


SCALED_INSIDE = ["EfficientNetB0", "EfficientNetV2B0", "EfficientNetV2S", "ConvNeXtTiny"]
SCALED_BEFORE = ["MobileNetV2", "DenseNet121", "NASNetMobile"]


@pytest.mark.parametrize(
    "name",
    [
        "MobileNetV3Small",
        *(pytest.param(name, marks=pytest.mark.slow) for name in SCALED_INSIDE + SCALED_BEFORE),
    ],
)
def test_pixels_are_scaled_once_wherever_keras_does_it(name):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    model = backbone(f"keras_applications:{name}", (32, 32, 3), 2)
    network = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    x = pixels / 255.0
    for step in model.operations[1 : model.operations.index(network)]:
        x = step(x)
    prepare = sys.modules[getattr(keras.applications, name).__module__].preprocess_input
    np.testing.assert_allclose(x, prepare(pixels.copy()), rtol=1e-4, atol=1e-3)
    first = next(layer for layer in network.layers if layer.trainable_weights)
    seen = keras.Model(network.inputs, first.input)(x)
    assert 0.9 < np.ptp(seen) < 6.0


def test_every_network_of_keras_has_its_preprocessing():
    known = {name for name in dir(keras.applications) if name[0].isupper()}
    assert set(_homes()) == known
    assert {"MobileNetV3Small", "MobileNetV3Large", "ResNet50"} <= known


@pytest.mark.parametrize(("channels", "pixel_range"), [(3, BYTES), (1, UNIT)])
def test_a_classifier_takes_its_own_pixels_and_answers_with_logits(tmp_path, channels, pixel_range):
    shape = (32, 40, channels)
    model = backbone(SMALLER, shape, 2, pnil=PNILLayer(), pixel_range=pixel_range)
    assert isinstance(model.layers[1], PNILLayer)
    assert model.output_shape == (None, 2)
    found = classifier_of(model, image_shape=shape)
    assert found.outputs.kind == "logits"
    assert found.pixel_range == pixel_range
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert len(again.weights) == len(model.weights)


def test_replicas_share_the_batch_statistics():
    layers = all_layers(backbone(SMALLER, (32, 32, 3), 2))
    normalizations = [x for x in layers if isinstance(x, keras.layers.BatchNormalization)]
    assert normalizations
    assert all(layer.synchronized for layer in normalizations)


def test_what_a_step_keeps_is_counted_within_the_network():
    small, large = (kept_values(backbone(SMALLER, (side, side, 3), 2)) for side in (32, 64))
    assert 3.5 < large / small < 4.5
    assert small > 100 * 32 * 32


def test_weights_come_from_a_file_and_batch_normalization_may_stay_as_it_is(weights):
    network = keras.applications.MobileNetV2((32, 32, 3), include_top=False, weights=None)
    network.load_weights(weights)
    expected = network.get_weights()
    model = backbone(NAME, (32, 32, 3), 2, weights=str(weights), freeze_batch_norm=True)
    inner = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    for value, given in zip(inner.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(value, given)
    frozen = [layer for layer in inner.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert frozen
    assert not any(layer.trainable_weights for layer in frozen)
    x = np.random.default_rng(0).uniform(size=(4, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(model(x, training=True), model(x, training=False))
    assert len(model.trainable_weights) == len(inner.trainable_weights) + 2


def test_what_cannot_be_built_is_refused(weights, tmp_path):
    with pytest.raises(UserError, match="Did you mean 'MobileNetV2'"):
        check_backbone("keras_applications:MobilNetV2", None)
    with pytest.raises(UserError, match=r"nothing is downloaded.*weights='imagenet'"):
        check_backbone(NAME, "imagenet")
    with pytest.raises(UserError, match=r"no file of weights at 'x/y\.h5'"):
        check_backbone(NAME, "x/y.h5")
    with pytest.raises(UserError, match=r"too small for MobileNetV2.*at least 32x32"):
        backbone(NAME, (28, 28, 1), 10)
    with pytest.raises(UserError, match=r"one or three channels\. Received: 4"):
        backbone(NAME, (32, 32, 4), 10)
    with pytest.raises(UserError, match="does not hold the weights of MobileNet without its last"):
        backbone("keras_applications:MobileNet", (32, 32, 3), 2, weights=str(weights))
    damaged = tmp_path / "damaged.weights.h5"
    damaged.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(UserError, match="does not hold the weights of MobileNetV2"):
        backbone(NAME, (32, 32, 3), 2, weights=str(damaged))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": NAME, "width": 8}, "has its own width. Received: width=8"),
        ({"model": NAME, "freeze_batch_norm": True}, "Give weights, or leave it out"),
        ({"model": "small_cnn", "weights": "x.h5"}, "weights is about the networks of keras"),
        ({"weights": "x.h5"}, "Received: model='the default'"),
        ({"model": NAME, "pnil_before": "Conv1"}, "without pnil=True"),
        ({"pnil": True, "pnil_before": "Conv1"}, "pnil_before is about the networks of keras"),
        ({"model": "resnet50"}, "must be one of small_cnn, resnet11, keras_applications:NAME"),
    ],
)
def test_settings_that_do_not_fit_a_model_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        ModelSettings(**settings)


def test_noise_within_a_network_is_before_the_layer_that_was_named_and_proves_nothing():
    model = backbone(SMALLER, (32, 32, 3), 2, freeze_batch_norm=True)
    hardened = add_pnil(model, before="conv_pw_1", initial_sigma=0.5)
    x = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    with noise_off():
        np.testing.assert_allclose(hardened(x), model(x), rtol=1e-4, atol=1e-6)
    assert not np.array_equal(hardened(x), hardened(x))
    (layer,) = (layer for layer in all_layers(hardened) if isinstance(layer, PNILLayer))
    noisy, named = layer.output, "conv_pw_1"
    (network,) = (one for one in hardened.layers if isinstance(one, keras.Model))
    assert network.get_layer(named).input is noisy
    frozen = [one.trainable for one in all_layers(hardened) if "_bn" in one.name]
    assert frozen
    assert not any(frozen)
    with pytest.raises(UserError, match="in front of the noise"):
        certify(hardened, x, epsilon=0.1, draws=100, verbose=0)


@pytest.mark.slow
def test_from_photographs_in_files_to_an_evaluation(tmp_path, weights):
    write_jpegs(tmp_path / "pets", size=32)
    flags = [f"--dataset=folder:{tmp_path / 'pets'}", "--image_size=32", "--data_in_memory=false"]
    flags += [f"--model={NAME}", "--pixel_range=0,255", "--pnil", "--epsilon=4/255"]
    flags += ["--batch_size=8", "--epochs=1", "--guard=off", "--validation_images=4"]
    flags += ["--evaluation_images=4", f"--runs_dir={tmp_path}"]
    refused = [*flags, "--name=refused", "--weights=imagenet"]
    status, _, err = run("train.py", *refused)
    assert status == 2
    assert "nothing is downloaded" in err
    assert "Images:" not in err  # said before any image was read
    elsewhere = [*flags, "--name=elsewhere", f"--weights={weights}", "--pnil_before=Conv2"]
    status, _, err = run("train.py", *elsewhere)
    assert status == 2
    assert "--pnil_before=Conv2 cannot be followed. The model has no layer of this name" in err
    assert not (tmp_path / "elsewhere").exists()
    pretrained = [*flags, "--name=run", f"--weights={weights}", "--freeze_batch_norm"]
    pretrained += ["--pnil_before=Conv1"]
    status, _, err = run("train.py", *pretrained)
    assert status == 0, err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["result"] is not None
    attack = ["--attacks=pgd", "--steps=2", "--images=4", "--nochecks", "--eot_samples=2"]
    status, _, err = run("evaluate.py", f"--model={tmp_path / 'run'}", *attack)
    assert status == 0, err
    out = tmp_path / "export"
    status, _, err = run("export.py", f"--model={tmp_path / 'run'}", f"--output={out}")
    assert status == 0, err
