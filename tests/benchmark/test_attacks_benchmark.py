"""The benchmarks of the attacks run, on a classifier whose weakness is known."""

import numpy as np
import pytest
import tensorflow as tf

from pnil_tf.benchmark import antithetic, certify, eot, sweep
from pnil_tf.benchmark.antithetic import antithetic_benchmark
from pnil_tf.benchmark.certify import certify_benchmark
from pnil_tf.benchmark.eot import eot_benchmark
from pnil_tf.benchmark.evaluate import pgd_benchmark, spsa_benchmark
from pnil_tf.benchmark.plain import plain_pgd, plain_spsa
from pnil_tf.benchmark.settings import BenchmarkSettings
from pnil_tf.benchmark.sweep import pgd_strong_sweep
from pnil_tf.errors import UserError
from pnil_tf.rng import layer_noise
from pnil_tf.vocabulary import REAL_SIZE_MODEL

X = np.full((4, 3, 3, 1), 0.5, np.float32)
Y = np.zeros(4, np.int32)


def predict(x):
    """Class 1 if the mean pixel exceeds 0.6, with little noise."""
    x = x + 0.01 * layer_noise(tf.shape(x), False)
    mean = tf.reduce_mean(x, axis=[1, 2, 3])
    return 10.0 * tf.stack([0.6 - mean, mean - 0.6], axis=1)


@pytest.mark.parametrize(("epsilon", "fooled"), [(0.05, False), (0.2, True)])
def test_plain_attacks_reach_the_corner_of_the_ball(epsilon, fooled):
    pgd = plain_pgd(predict, epsilon, steps=10, draws=4)(X, Y, 0)
    np.testing.assert_allclose(pgd, X + epsilon, atol=1e-6)
    spsa = plain_spsa(predict, epsilon, steps=40, samples=32, learning_rate=0.02)(X[:1], Y[:1])
    assert np.abs(spsa - X[:1]).max() <= epsilon + 1e-6
    for found in (pgd, spsa):
        assert ((predict(found).numpy().argmax(axis=1) == 1) == fooled).all()


def test_rows_of_pgd():
    rows = pgd_benchmark(predict, X, Y, 0.2, steps=4, draws=4, rounds=1)
    assert [row["way"] for row in rows] == ["plain loop", "faithful", "default"]
    assert rows[0]["ratio"] == 1.0
    assert all(row["accuracy"] == 0.0 and row["per_second"] > 0 for row in rows)
    # The floor is that of the plain procedure: 4 steps of 4 draws, 2 operations each.
    assert len({row["floor_per_second"] for row in rows}) == 1


def test_rows_of_certify(monkeypatch):
    monkeypatch.setattr(certify, "_DRAWS", 100)
    rows = certify_benchmark(predict, X, rounds=1)
    assert [row["draws"] for row in rows] == ["ready noise", "certify", "the noise alone"]
    assert rows[0]["ratio"] == 1.0
    assert all(row["per_second"] > 0 and row["times_floor"] > 0 for row in rows)


def test_rows_of_spsa():
    rows = spsa_benchmark(predict, X[:2], Y[:2], 0.2, steps=2, samples=8, rounds=1)
    assert rows[0]["way"] == "forward passes alone"
    assert len({row["way"] for row in rows}) == 4


def test_rows_of_eot(monkeypatch):
    monkeypatch.setattr(eot, "_GRADIENTS", 4)
    monkeypatch.setattr(eot, "_DRAWS", (1, 2))
    monkeypatch.setattr(eot, "_BATCHES", (2, 500))
    monkeypatch.setattr(eot, "_CHUNKS", (1, 2))
    rows = eot_benchmark(predict, X, Y, 0.2, rounds=1)
    found = [(row["draws"], row["batch"], row["chunk"]) for row in rows]
    assert found == [(1, 2, 1), (2, 2, 1), (2, 2, 2)]


@pytest.mark.slow
def test_antithetic_draws_cancel_noise_that_is_odd(monkeypatch):
    monkeypatch.setattr(antithetic, "_DRAWS", (2,))
    monkeypatch.setattr(antithetic, "_REFERENCE_DRAWS", 2000)

    def odd(x):
        """The gradient is noisy, the loss is not: a pair of opposite draws finds the corner."""
        still = tf.stop_gradient(x)
        return predict(still + (x - still) * (1.0 + 9.0 * layer_noise(tf.shape(x), False)))

    (row,) = antithetic_benchmark(odd, X, Y, 0.2, steps=4, rounds=1)
    assert row["antithetic_accuracy"] == 0.0 < row["independent_accuracy"]
    assert row["antithetic_ascent"] > row["independent_ascent"]


def test_rows_of_the_sweep(monkeypatch):
    monkeypatch.setattr(sweep, "_STEPS", (0.001, 0.3))
    monkeypatch.setattr(sweep, "_DECAYS", (1.0,))
    monkeypatch.setattr(sweep, "_LOSSES", ("margin",))
    tiny, large, default = pgd_strong_sweep(predict, X, Y, 0.13, draws=4)
    assert tiny["accuracy"] > large["accuracy"] == default["accuracy"] == 0.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "nothing to measure"),
        ({"train": True, "benchmark_model": REAL_SIZE_MODEL}, "measure smaller images"),
        (
            {"peers": True, "benchmark_model": REAL_SIZE_MODEL, "benchmark_width": 8},
            "has one width",
        ),
        ({"evaluate": True}, "trained with pnil as benchmark_run"),
        ({"train": True, "rounds": 0}, "rounds"),
        ({"sweep": True, "benchmark_run": "runs/x", "spsa_samples": 3}, "pairs"),
    ],
)
def test_bad_settings(change, words):
    with pytest.raises(UserError, match=words):
        BenchmarkSettings(**change)
