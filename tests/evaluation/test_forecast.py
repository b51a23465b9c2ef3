import keras
import numpy as np
import tensorflow as tf

from pnil_tf.attacks.registry import attack_settings
from pnil_tf.evaluation import forecast as forecast_module
from pnil_tf.evaluation import runner
from pnil_tf.evaluation.forecast import Costs, forecast, measured
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.evaluation.store import Store
from pnil_tf.evaluation.target import as_target
from pnil_tf.evaluation.trial import Trial
from pnil_tf.layers import PNILLayer
from pnil_tf.progress import Stages

SMALL = {
    "epsilon": 0.1,
    "images": 12,
    "steps": 1,
    "eot_samples": 2,
    "judge_draws": 3,
    "check_images": 12,
    "check_draws": 2,
    "epsilons": (0.1,),
    "attacks": ("pgd_strong", "fgsm"),
}


def linear(noise=False):
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            *([PNILLayer(bias_initializer=keras.initializers.Constant(-3.0))] if noise else []),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    model.layers[-1].kernel.assign(np.random.default_rng(1).normal(size=(16, 3)))
    return model


def images(n=12):
    x = np.random.default_rng(0).random((n, 4, 4, 1)).astype(np.float32)
    return x, np.arange(n, dtype=np.int32) % 3


def trial_of(model, tmp_path, **changes):
    x, y = images()
    settings = EvaluationSettings(**{**SMALL, "checks": False, "epsilons": (), **changes})
    return Trial(as_target(model, x), x, y, settings, Store(tmp_path, {}, False))


def test_an_attack_costs_its_steps_starts_losses_and_draws(tmp_path):
    trial = trial_of(linear(), tmp_path)
    costs = Costs(forward=1.0, gradient=10.0, tracing=0.0)

    def seconds(name, images=5, **settings):
        attack = attack_settings(name, 0.1, check_every=0, **settings)
        return forecast(trial, {name: (attack, images)}, costs)[name]

    judged = 5 * 1.0
    assert seconds("pgd", steps=7, restarts=3, draws=2) == 5 * 7 * 3 * 2 * 10 + judged
    assert seconds("pgd", steps=1, draws=1, loss="margin+cross_entropy") == 5 * 2 * 10 + judged
    assert seconds("spsa", steps=7, samples=8, draws=1) == 5 * 7 * 8 * 1 + judged
    assert seconds("apgd_t", steps=7, targets=2, draws=1) == 5 * 7 * 2 * 10 + judged
    assert seconds("pgd", images=100, steps=1, draws=1) == 12 * (10 + 1)  # there are no more


def test_what_answers_and_gradients_cost_is_measured(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(forecast_module.time, "monotonic", lambda: now[0])

    def takes(seconds):
        def call(x):
            now[0] += seconds
            return x

        return call

    @tf.custom_gradient
    def slow(x):
        def gradient(upstream):
            return tf.ensure_shape(tf.numpy_function(takes(3.0), [upstream], tf.float32), x.shape)

        return tf.ensure_shape(tf.numpy_function(takes(2.0), [x], tf.float32), x.shape), gradient

    x, _ = images()
    target = as_target(lambda x: tf.reduce_sum(slow(x), [1, 2]) * [[1.0, 2.0]], x)
    assert measured(target, x) == Costs(forward=2 / 12, gradient=5 / 12, tracing=0.0)


def test_every_stage_of_an_evaluation_was_announced(tmp_path, monkeypatch):
    begun, expected = [], []

    class Recorded(Stages):
        def expect(self, seconds):
            expected.extend(seconds)
            super().expect(seconds)

        def begin(self, name, total, unit="image"):
            begun.append(name)
            return super().begin(name, total, unit)

    monkeypatch.setattr(runner, "Stages", Recorded)
    settings = EvaluationSettings(**SMALL, loss="margin")  # one loss is quicker to trace than two
    runner.evaluate(linear(noise=True), *images(), settings, tmp_path / "out", verbose=0)
    # Judgements of the checks are short. Whether there is anything to plant shows on the way.
    unexpected = {"check-twice-the-restarts", "check-plant-clean", "check-plant-points"}
    assert set(begun) - set(expected) <= unexpected
    missing = set(expected) - set(begun)
    assert all(name.startswith("check-planted-") for name in missing)
