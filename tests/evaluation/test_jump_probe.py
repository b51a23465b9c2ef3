"""Answers that jump are told from those that pass over, by the share taken at one bound."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from linear_models import SHAPE, linear

from pnil_tf.evaluation import jump_probe
from pnil_tf.evaluation.jump_probe import probe_jumps
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.evaluation.store import Store
from pnil_tf.evaluation.target import as_target
from pnil_tf.evaluation.trial import Trial
from pnil_tf.progress import Stages

X = np.random.default_rng(0).random((12, *SHAPE)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=16)
BIAS = -float(np.median(X.reshape(12, -1) @ WEIGHTS))
ONE_PIECE = 1 / 256


def of(sigma=0.1):
    return linear(np.full(16, sigma), WEIGHTS, BIAS)


@keras.saving.register_keras_serializable(package=__name__)
class Stair(keras.layers.Layer):
    """The class alone, and a slope of some pixels beside it, which is that of the function."""

    def call(self, inputs):
        x, logits = inputs
        corner = tf.reduce_mean(x[:, 0, :, 0], axis=1, keepdims=True)
        return tf.one_hot(tf.argmax(logits, axis=1), 2) + 0.3 * corner * tf.constant([0.0, 1.0])


def stair():
    x = keras.Input(SHAPE)
    logits = of().layers[-1](keras.layers.Flatten()(x))
    return keras.Model(x, Stair()([x, logits]))


@pytest.fixture
def jumps(tmp_path):
    def run(model, x=X, **options):
        settings = EvaluationSettings(epsilon=0.1, images=len(x), batch_size=5)
        y = np.zeros(len(x), np.int32)
        target = as_target(model, x, **options)
        return probe_jumps(Trial(target, x, y, settings, Store(tmp_path, {}, False)), len(x))

    return run


def test_a_linear_model_changes_by_the_length_of_the_piece(jumps):
    quiet = keras.Sequential([keras.Input(SHAPE), *of().layers[1:]])
    np.testing.assert_allclose(jumps(quiet), ONE_PIECE, rtol=1e-3)


def test_noise_that_can_be_held_makes_no_jumps(jumps):
    np.testing.assert_allclose(jumps(of(sigma=0.5)), ONE_PIECE, rtol=1e-3)


def test_a_stair_takes_all_of_it_at_once_whatever_slope_it_shows(jumps):
    assert (jumps(stair()) > 0.8).all()


def test_noise_that_follows_no_seed_hides_no_stair_and_makes_none(jumps):
    quiet = keras.Sequential([keras.Input(SHAPE), *of().layers[1:]])
    for model, sigma, least, most in ((stair(), 0.1, 0.8, 1.0), (quiet, 0.1, 0.0, 0.1)):

        def unheld(x, model=model, sigma=sigma):
            return model(x + sigma * tf.random.normal(tf.shape(x)))

        found = jumps(unheld, outputs="logits")
        assert least < np.quantile(found, 0.9) < most


WAY = np.linspace(1.0, -1.0, 256)
NOISE = np.random.default_rng(2).normal(size=256)
COIN = np.random.default_rng(3).choice([-1.0, 1.0], 256)


@pytest.mark.parametrize(
    ("answers", "least", "most"),
    [
        (WAY, 0.004, 0.005),  # one of 255 pieces, and nine tenths of the whole
        (WAY + 0.5 * NOISE, 0.0, 0.05),
        (np.sign(WAY), 1.0, 1.0),
        (np.sign(WAY + 0.5 * NOISE), 1.0, 1.0),  # steps, however loud the noise
        (np.sign(WAY + 0.5 * NOISE) + 0.1 * WAY, 0.8, 1.0),  # and a slope beside them
        (np.tanh(60 * (WAY + 0.5 * NOISE)), 0.2, 1.0),  # smoothed
        (WAY + 0.3 * COIN, 0.0, 0.05),  # one of two networks, which pass over
        (0.1 * WAY + COIN, 0.0, 0.0),  # which are of different mind
        (1.0 + 0.1 * NOISE, 0.0, 0.0),  # the class never changes
        (np.full(256, np.nan), 0.0, 0.0),
    ],
)
def test_noise_fills_the_gap_between_two_classes_unless_answers_stay_on_steps(answers, least, most):
    (found,) = jump_probe._gaps(
        lambda share: answers[[round(255 * float(share[0]))]], 1, Stages("", verbose=0)
    )
    assert least - 1e-6 <= found <= most + 1e-6


def test_of_images_of_one_class_nothing_can_be_said(jumps):
    quiet = keras.Sequential([keras.Input(SHAPE), *of().layers[1:]])
    assert jumps(quiet, x=X[:1].repeat(3, axis=0)) is None
