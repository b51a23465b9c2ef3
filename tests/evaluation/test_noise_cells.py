"""What is left when the attacker knows the draws, with the noise off, and with fresh draws."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf.evaluation.probes import _at_epsilon, _cells, _strong, announced, curve_epsilons
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.evaluation.store import Store
from pnil_tf.evaluation.target import as_target
from pnil_tf.evaluation.trial import Outcome, Trial

EPSILON, SIGMA, COUNT = 0.05, 0.1, 20


class Always(keras.layers.GaussianNoise):
    """Noise at inference, too."""

    def call(self, inputs):
        return super().call(inputs, training=True)


class Loud(keras.layers.Layer):
    """The same, which nothing switches off."""

    def __init__(self):
        super().__init__()
        self.generator = keras.random.SeedGenerator(0)

    def call(self, x):
        return x + SIGMA * keras.random.normal(keras.ops.shape(x), seed=self.generator)


class TwoSides(keras.layers.Layer):
    """Of one pixel: right while it is within bounds to either side of 0.5."""

    def __init__(self):
        super().__init__()
        self.below = self.add_weight(initializer=keras.initializers.Constant(9.0), trainable=False)
        self.above = self.add_weight(initializer="zeros", trainable=False)

    def call(self, x):
        moved = keras.ops.reshape(x, (-1, 1)) - 0.5
        outside = keras.ops.maximum(moved - self.above, -moved - self.below)
        return 20.0 * keras.ops.concatenate([keras.ops.zeros_like(outside), outside], axis=1)


def trial_of(noise, folder):
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), noise, keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    weights = np.random.default_rng(1).normal(size=(16, 2)).astype(np.float32)
    model.layers[-1].kernel.assign(weights)
    # Far from the ends of the range, so that the ball is not cut.
    x = np.random.default_rng(0).uniform(0.3, 0.7, (COUNT, 4, 4, 1)).astype(np.float32)
    y = (x.reshape(COUNT, 16) @ weights).argmax(axis=1).astype(np.int32)
    # Of two classes every step along the margin's signs is in the best direction.
    few = {"steps": 10, "restarts": 1, "loss": "margin", "check_draws": 2, "judge_draws": 20}
    settings = EvaluationSettings(EPSILON, check_images=COUNT, **few)
    target = as_target(model, x)
    return Trial(target, x, y, settings, Store(folder / "state", {}, False)), weights


def standing(logits, y, weights, epsilon):
    """Which images of a linear model withstand every perturbation within epsilon (l_inf)."""
    rows = np.arange(len(y))
    margins = logits[rows, y][:, np.newaxis] - logits
    reach = np.abs(weights[:, y].T[:, :, np.newaxis] - weights[np.newaxis]).sum(axis=1)
    margins -= epsilon * reach
    margins[rows, y] = np.inf
    return (margins > 0).all(axis=1)


def test_noise_of_a_keras_layer_is_known_to_the_attacker_or_off(tmp_path):
    trial, weights = trial_of(Always(SIGMA), tmp_path)
    cells = _cells(trial, _at_epsilon(trial, None, COUNT), COUNT)
    known = tf.function(trial.target.frozen(1), autograph=False)(tf.constant(trial.x)).numpy()
    free = trial.x.reshape(COUNT, 16) @ weights
    np.testing.assert_array_equal(cells.clean_without, np.ones(COUNT))
    np.testing.assert_array_equal(cells.clean_frozen, known.argmax(axis=1) == trial.y)
    left_without, left_known = (
        standing(logits, trial.y, weights, EPSILON) for logits in (free, known)
    )
    assert 0 < left_without.mean() < 1
    assert 0 < left_known.mean() < 1
    np.testing.assert_array_equal(cells.without_without, left_without)
    np.testing.assert_array_equal(cells.frozen_frozen, left_known)
    # Fresh draws neither spare nor hurt as one does that all images share.
    assert not np.isin(cells.with_with, (0, 1)).all()


def test_where_noise_cannot_be_switched_off_the_other_two_are_measured(tmp_path):
    trial, weights = trial_of(Loud(), tmp_path)
    cells = _cells(trial, _at_epsilon(trial, None, COUNT), COUNT)
    known = tf.function(trial.target.frozen(1), autograph=False)(tf.constant(trial.x)).numpy()
    np.testing.assert_array_equal(cells.frozen_frozen, standing(known, trial.y, weights, EPSILON))
    assert cells.clean_without is cells.without_with is cells.without_without is None
    ahead = announced(trial, {}, curve_epsilons(trial.settings))
    assert "check-frozen" in ahead
    assert "check-noise-free" not in ahead


def test_of_several_searches_an_attacker_who_knows_the_draw_keeps_what_fools_it(tmp_path):
    """Fresh draws are fooled more often to that side where the known draw withstands."""
    sides = TwoSides()
    model = keras.Sequential([keras.Input((1, 1, 1)), Always(SIGMA), sides])
    x, y = np.full((COUNT, 1, 1, 1), 0.5, np.float32), np.zeros(COUNT, np.int32)
    few = {"steps": 5, "check_draws": 2, "judge_draws": 10, "check_images": COUNT}
    settings = EvaluationSettings(2 * SIGMA, restarts=2, loss="cross_entropy+margin", **few)
    target = dataclasses.replace(as_target(model, x), silent=False)
    trial = Trial(target, x, y, settings, Store(tmp_path / "state", {}, False))
    drawn = float(tf.function(target.frozen(1), autograph=False)(tf.constant(x))[0, 1]) / 20
    to_known, to_fresh = sides.above, sides.below
    if drawn < 0:
        to_known, to_fresh = to_fresh, to_known
    beyond = abs(drawn) - SIGMA / 20
    assert beyond > 0
    to_known.assign(settings.epsilon + beyond)
    to_fresh.assign(settings.epsilon - beyond)
    votes = trial.clean_votes()
    attack = _strong(trial, settings.epsilon)
    cells = _cells(trial, Outcome(attack, x, votes, trial.share(votes), 0.0, 0.0), COUNT)
    np.testing.assert_array_equal(cells.clean_frozen, np.ones(COUNT))
    # Of an image whose four searches all went the other way the draw is not fooled.
    assert cells.frozen_frozen.mean() <= 0.1


@pytest.mark.parametrize("kept", [True, False])
def test_a_model_whose_noise_cannot_be_held_at_all_has_no_such_cells(tmp_path, kept):
    noise = keras.layers.Lambda(lambda x: x + SIGMA * tf.random.normal(tf.shape(x)))
    trial, _ = trial_of(noise if kept else keras.layers.Activation("linear"), tmp_path)
    assert trial.target.stochastic == kept
    assert _cells(trial, _at_epsilon(trial, None, COUNT), COUNT) is None
