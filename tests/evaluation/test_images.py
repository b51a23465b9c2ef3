"""Whatever pixels, labels and outputs a user has: the right figure, or one sentence."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from zoo import RandomShift

from pnil_tf.contract.pixel_range import BYTES, SIGNED, UNIT
from pnil_tf.errors import UserError
from pnil_tf.evaluation.images import (
    _surely_more,
    digests_of,
    first_images,
    unit_images,
    warn_of_copies,
)
from pnil_tf.evaluation.runner import evaluate
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.training.model import AdversarialModel

D = keras.layers
BYTE_IMAGES = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1)).astype(np.uint8)
X = BYTE_IMAGES / np.float32(255)
Y = (X[:, :4].mean((1, 2, 3)) > X[:, 4:].mean((1, 2, 3))).astype(np.int32)
EPSILON = 0.02
SETTINGS = EvaluationSettings(
    epsilon=EPSILON, attacks=("pgd",), steps=3, images=60, checks=False, batch_size=60
)
UNSEARCHED = dataclasses.replace(SETTINGS, attacks=("noise",), steps=None)
"""Where nothing is said of what an attack leaves."""
TOP = np.repeat([1.0, -1.0], 32).astype(np.float32)[:, np.newaxis]
"""Weights of a classifier that is always right: the upper half against the lower one."""


def model(*first, outputs=2, activation=None):
    """Right on all images in [0, 1], after the layers in front."""
    head = D.Dense(outputs, activation=activation)
    built = keras.Sequential([keras.Input((8, 8, 1)), *first, D.Flatten(), head])
    head.kernel.assign(np.concatenate([-TOP, TOP], axis=1) if outputs == 2 else 2 * TOP)
    return built


def evaluated(tmp_path, model, images, settings=SETTINGS, **arguments):
    found = evaluate(model, images, Y, settings, tmp_path / "e", **arguments)
    return found, found["attacks"][settings.attacks[0]]["value"]


def brighter_than_half(inputs=64):
    """Right on pixels from 0 to 255 alone, and nothing in it says so."""
    head = D.Dense(2)
    built = keras.Sequential([keras.Input((8, 8, 1)), D.Flatten(), head])
    ones = np.full((inputs, 1), 1 / inputs, np.float32)
    head.set_weights([np.concatenate([-ones, ones], axis=1), np.array([127.5, -127.5], np.float32)])
    return built


@pytest.fixture(scope="module")
def through_logits(tmp_path_factory):
    """The right figure: the share of images whose margin exceeds what the attack can move."""
    clean, value = evaluated(tmp_path_factory.mktemp("logits"), model(), X)
    assert clean["clean"]["value"] == 1.0
    margin = np.abs((X.reshape(-1, 64) @ TOP)[:, 0])
    assert value == pytest.approx((margin > 64 * EPSILON).mean(), abs=0.05)
    assert 0.1 < value < 0.9
    return value


@pytest.mark.parametrize(
    ("make", "images", "said"),
    [
        (lambda: model(activation="softmax"), X, {}),
        (lambda: model(outputs=1), BYTE_IMAGES, {"pixel_range": (0, 1)}),
        (lambda: model(outputs=1, activation="sigmoid"), X, {}),
        (lambda: model(D.Rescaling(1 / 255), activation="softmax"), BYTE_IMAGES, {}),
        (lambda: model(D.Rescaling(1 / 255), outputs=1), 255 * X, {}),
        (lambda: model(D.Lambda(lambda x: x)), 2 * X - 1, {"pixel_range": (-1, 1)}),
    ],
    ids=["softmax", "logit", "probability", "bytes", "float bytes", "signed"],
)
def test_every_form_has_the_figure_of_its_logits(make, images, said, tmp_path, through_logits):
    results, value = evaluated(tmp_path, make(), images, **said)
    assert results["clean"]["value"] == 1.0
    assert value == through_logits
    assert results["model"]["num_classes"] == 2
    assert results["verdict_reason"].count("0.02 of the range (5.1 of 255)") or said


def test_the_wrapper_knows_its_range(tmp_path, through_logits):
    wrapper = AdversarialModel(model(D.Rescaling(1 / 255)), "fgsm", 8 / 255, pixel_range=(0, 255))
    results, value = evaluated(tmp_path, wrapper, 255 * X)
    assert results["model"]["pixel_range"] == [0.0, 255.0]
    assert value == through_logits


def test_a_wrong_range_gets_a_sentence_and_the_right_one_a_figure(tmp_path):
    y = (X.mean((1, 2, 3)) > 0.5).astype(np.int32)
    with pytest.raises(
        UserError, match=r"pixels in \[0, 255\] it is 100.0%.*Set pixel_range=\(0, 255\)"
    ):
        evaluate(brighter_than_half(), BYTE_IMAGES, y, UNSEARCHED, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    found = evaluate(
        brighter_than_half(), BYTE_IMAGES, y, UNSEARCHED, tmp_path / "b", pixel_range=(0, 255)
    )
    assert found["clean"]["value"] == 1.0


def test_a_range_in_which_it_recognises_clearly_less_is_refused_unless_said(
    tmp_path,
):
    brightness = np.tile([25, 25, 165, 230, 230], 12)
    images = np.tile(brightness[:, None, None, None], (1, 8, 8, 1)).astype(np.uint8)
    labels = (brightness > 200).astype(np.int32)
    signed = brighter_than_half()  # of pixels from -1 to 1: those above 0.5, which is 191
    signed.layers[-1].bias.assign([0.5, -0.5])
    with pytest.raises(UserError, match=r"80.0% \(guess.*in \[-1, 1\] it is 100.0%.*\(-1, 1\)"):
        evaluate(signed, images, labels, UNSEARCHED, tmp_path / "a")
    for pixel_range, clean in (((0, 1), 0.8), ((-1, 1), 1.0)):
        folder = tmp_path / str(clean)
        found = evaluate(signed, images, labels, UNSEARCHED, folder, pixel_range=pixel_range)
        assert found["clean"]["value"] == pytest.approx(clean, abs=0.2)


def test_noise_that_a_wider_range_would_drown_does_not_tell_the_range(tmp_path):
    upper = np.tile([0.6, 0.4], 30)[:, None, None, None]
    images = np.where(np.arange(8)[:, None, None] < 4, upper, 1 - upper)
    images = np.broadcast_to(images, X.shape).astype(np.float32)
    labels = (upper.ravel() > 0.5).astype(np.int32)
    found = evaluate(model(RandomShift(0.8)), images, labels, UNSEARCHED, tmp_path)
    assert 0.7 < found["clean"]["value"] < 0.95


def test_a_range_that_a_training_recorded_is_not_refused_by_a_guess(tmp_path):
    y = (X.mean((1, 2, 3)) > 0.5).astype(np.int32)
    found = evaluate(
        brighter_than_half(),
        BYTE_IMAGES,
        y,
        UNSEARCHED,
        tmp_path,
        pixel_range=(0, 1),
        range_recorded=True,
    )
    assert found["clean"]["value"] < 1.0


def test_a_range_that_nothing_tells_is_said(tmp_path, caplog):
    scaled = model(D.Rescaling(3.0))
    evaluated(tmp_path / "assumed", scaled, X, UNSEARCHED)
    assert "[0, 1] is assumed: give pixel_range" in caplog.text
    caplog.clear()
    evaluated(tmp_path / "given", scaled, X, UNSEARCHED, pixel_range=(0, 1))
    assert "assumed" not in caplog.text


def test_one_output_that_nothing_explains_can_be_said(tmp_path, through_logits):
    inner = model(outputs=1, activation="sigmoid")
    hidden = tf.function(lambda x: inner(x))
    with pytest.raises(UserError, match=r"with logits or with probabilities.*1 output"):
        evaluated(tmp_path, hidden, X)
    _, value = evaluated(tmp_path, hidden, X, outputs="one probability")
    assert value == through_logits


@pytest.mark.parametrize(
    ("images", "pixel_range", "words"),
    [
        (255 * X, UNIT, r"in \[0, 1\].*look like \[0, 255\]"),
        (2 * X - 1, UNIT, r"in \[0, 1\].*look like \[-1, 1\]"),
        (X, BYTES, r"in \[0, 255\].*look like \[0, 1\]"),
        (255 * X, SIGNED, r"in \[-1, 1\].*look like \[0, 255\]"),
        (X * np.nan, UNIT, "finite"),
    ],
)
def test_pixels_of_another_range_are_refused(images, pixel_range, words):
    with pytest.raises(UserError, match=words):
        unit_images(images, pixel_range)


def test_zeros_and_ones_of_uint8_are_bytes_or_a_mistake():
    images = (X > 0.5).astype(np.uint8)
    with pytest.raises(UserError, match="zeros and ones alone"):
        unit_images(images, UNIT)
    np.testing.assert_allclose(unit_images(images, BYTES), images / 255, atol=1e-7)
    with pytest.raises(UserError, match="look like"):
        unit_images(images.astype(np.float32), BYTES)


def test_bytes_up_to_16_are_a_mistake():
    images = (16 * X).astype(np.uint8)
    with pytest.raises(UserError, match=r"Received: 16 at most.*If 16 means white"):
        unit_images(images, BYTES, said=False)
    np.testing.assert_allclose(unit_images(2 * images, UNIT), 2 * images / 255, atol=1e-7)
    np.testing.assert_allclose(unit_images(images, BYTES), images / 255, atol=1e-7)  # so be it


def test_floats_far_below_white_ask_for_what_white_is(tmp_path):
    scaled = model(D.Normalization(mean=40.0, variance=25.0**2))
    with pytest.raises(UserError, match=r"suits \[0, 255\].*floats up to 100.*=\(0, 100\)"):
        evaluated(tmp_path, scaled, 100 * X, UNSEARCHED)
    assert not (tmp_path / "e").exists()
    results, _ = evaluated(tmp_path, scaled, 100 * X, UNSEARCHED, pixel_range=(0, 100))
    assert results["model"]["pixel_range"] == [0.0, 100.0]
    np.testing.assert_allclose(unit_images(100 * X, BYTES), 100 * X / 255, rtol=1e-5)


def test_bytes_do_not_tell_what_a_model_without_a_bias_takes(tmp_path):
    with pytest.raises(
        UserError, match=r"Nothing tells.*\[0, 1\] or in \[0, 255\].*100.0% of.*100.0% scaled"
    ):
        evaluated(tmp_path, model(), BYTE_IMAGES, UNSEARCHED)
    assert not (tmp_path / "e").exists()
    evaluated(tmp_path / "floats", model(), X, UNSEARCHED)  # they tell themselves
    evaluated(tmp_path / "said", model(), BYTE_IMAGES, UNSEARCHED, pixel_range=(0, 255))
    evaluated(tmp_path / "found", model(D.Rescaling(1 / 255)), BYTE_IMAGES, UNSEARCHED)


def test_bytes_do_not_tell_what_a_model_takes_that_is_always_noisy(tmp_path):
    noisy = model(RandomShift(0.1))
    with pytest.raises(UserError, match=r"which pixels.*noise cannot be switched off"):
        evaluated(tmp_path, noisy, BYTE_IMAGES, UNSEARCHED)
    evaluated(tmp_path / "floats", noisy, X, UNSEARCHED)
    evaluated(tmp_path / "said", noisy, BYTE_IMAGES, UNSEARCHED, pixel_range=(0, 1))


def test_bytes_are_what_a_model_surely_does_better_on(tmp_path):
    images = np.tile([30, 90, 150, 170, 210, 250], 10)[:, None, None, None]
    images = np.broadcast_to(images, (len(images), 8, 8, 1)).astype(np.uint8)
    y = (images[:, 0, 0, 0] > 127).astype(np.int32)
    of_unit = brighter_than_half()
    of_unit.layers[-1].bias.assign([0.5, -0.5])  # of pixels in [0, 1]: those above a half
    found = evaluate(of_unit, images, y, UNSEARCHED, tmp_path / "a")
    assert found["clean"]["value"] == 1.0


@pytest.mark.parametrize(("better", "worse", "sure"), [(5, 0, True), (4, 0, False), (9, 4, False)])
def test_more_of_the_same_images_are_right_by_a_sign_test(better, worse, sure):
    here = np.concatenate([np.ones(better + 20), np.zeros(worse)])
    there = np.concatenate([np.zeros(better), np.ones(20 + worse)])
    assert _surely_more(here, there) == sure
    assert not _surely_more(there, here)


@pytest.mark.parametrize("pixel_range", [UNIT, BYTES, SIGNED])
def test_pixels_become_shares_of_the_range(pixel_range):
    for images in (BYTE_IMAGES, pixel_range.from_unit(X)):
        found = unit_images(images, pixel_range)
        assert found.dtype == np.float32
        assert found.min() >= 0
        assert found.max() <= 1
        np.testing.assert_allclose(found, X, atol=1e-6)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.array(["cat", "dog"] * 30), "'cat' among them"),
        (np.eye(2)[Y], "labels.argmax"),
        (Y[:5], "as many whole-number labels"),
        (Y + 0.5, "numbers of classes"),
        (np.full(60, np.nan), "NaN or infinity"),
    ],
)
def test_labels_that_are_no_class_numbers(labels, words):
    with pytest.raises(UserError, match=words):
        first_images(X, labels, 10)


def test_labels_in_a_column_and_as_floats_are_understood():
    for labels in (Y[:, np.newaxis], Y.astype(np.float32), Y.astype(bool)):
        np.testing.assert_array_equal(first_images(X, labels, 60)[1], Y)


INPUT = keras.Input((8, 8, 1))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: keras.Model(INPUT, [D.Dense(2)(D.Flatten()(INPUT))] * 2),
            "with one array",
        ),
        (
            lambda: keras.Model(INPUT, {"a": D.Dense(2)(D.Flatten()(INPUT))}),
            "with one array",
        ),
        (
            lambda: keras.Model(
                [INPUT, more := keras.Input((1,), name="b")],
                D.Dense(2)(D.Concatenate()([D.Flatten()(INPUT), more])),
            ),
            "has one input",
        ),
        (lambda: keras.Sequential([keras.Input((8, 8, 1)), D.Conv2D(2, 3)]), "segmentation"),
        (lambda: keras.Sequential([keras.Input((9, 9, 1)), D.Flatten(), D.Dense(2)]), "of shape"),
    ],
    ids=["two outputs", "a dictionary", "two inputs", "segmentation", "another size"],
)
def test_what_is_no_classifier_of_these_images_gets_one_sentence(make, words, tmp_path):
    with pytest.raises(UserError, match=words) as error:
        evaluate(make(), X, Y, SETTINGS, tmp_path / "e")
    assert "\n" not in str(error.value)


def test_a_model_of_unknown_rank_is_evaluated(tmp_path, through_logits):
    inner = model()

    def unknown(x):
        return tf.py_function(lambda values: inner(values), [x], tf.float32)

    _, value = evaluated(tmp_path, unknown, X)
    assert value == through_logits


def test_a_radius_that_is_no_share_is_refused(tmp_path):
    with pytest.raises(UserError, match="write epsilon=8/255"):
        evaluate(
            model(D.Rescaling(1 / 255)),
            BYTE_IMAGES,
            Y,
            EvaluationSettings(epsilon=8.0),
            tmp_path / "e",
        )


def test_grey_images_without_channels_are_told_how_to_get_them():
    with pytest.raises(UserError, match=r"shape \(3, 8, 8\)\. .*x\[\.\.\., None\]"):
        first_images(np.zeros((3, 8, 8), np.float32), [0, 1, 0], 3)


def test_no_images_are_said_to_be_none():
    with pytest.raises(UserError, match="There are no images to evaluate"):
        first_images(X[:0], Y[:0], 10)


def test_copies_of_images_are_told_and_a_few_are_not(caplog):
    x = np.random.default_rng(0).random((20, 4, 4, 1), np.float32)
    warn_of_copies(digests_of(x))
    warn_of_copies(digests_of(np.concatenate([x, x[:2]])))
    assert not caplog.text
    warn_of_copies(digests_of(np.concatenate([x, x])))
    assert "Of 40 images only 20 are different" in caplog.text
