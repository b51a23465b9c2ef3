"""The learning rate range test: what it measures, suggests, and leaves untouched."""

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf.errors import UserError
from pnil_tf.layers import PNILLayer
from pnil_tf.training import lr_range
from pnil_tf.training.lr_range import LRRange, UndecidedError, lr_range_test, write_curve
from pnil_tf.training.model import AdversarialModel
from pnil_tf.training.schedules import Triangular

RNG = np.random.default_rng(0)
Y = (np.arange(200) % 4).astype(np.int32)
X = np.clip(0.4 * np.eye(4)[Y] + 0.6 * RNG.random((200, 4)), 0, 1).astype(np.float32)


def batches(x=X, y=Y):
    options = tf.data.Options()
    options.autotune.enabled = False
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(20).with_options(options)


def make_model(optimizer=None, noisy=True, **recipe):
    keras.utils.set_random_seed(0)
    noise = [PNILLayer(bias_initializer=keras.initializers.Constant(-4.0))] if noisy else []
    classifier = keras.Sequential(
        [
            keras.Input((4,)),
            *noise,
            keras.layers.Dense(16, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(4),
        ]
    )
    model = AdversarialModel(classifier, "nfgsm", 0.05, validation_attack="none", **recipe)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    return model


def test_the_rate_is_sought_under_the_full_radius():
    growing = make_model(epsilon_warmup_steps=1000)
    found = lr_range_test(growing, batches(), steps=10)
    assert found.losses == lr_range_test(make_model(), batches(), steps=10).losses
    assert growing.epsilon_warmup_steps == 1000


def test_rates_grow_by_one_factor_and_the_average_is_that_of_the_losses():
    result = lr_range_test(make_model(), batches(), 1e-4, 1e-1, steps=30, smoothing=0.8)
    assert len(result.lrs) == len(result.losses) == len(result.smoothed) == 30
    np.testing.assert_allclose(result.lrs, np.geomspace(1e-4, 1e-1, 30))
    expected, average = [], 0.0
    for step, loss in enumerate(result.losses, start=1):
        average = 0.8 * average + 0.2 * loss
        expected.append(average / (1 - 0.8**step))
    np.testing.assert_allclose(result.smoothed, expected)
    lowest = result.lrs[int(np.argmin(result.smoothed))]
    assert result.suggested_max == pytest.approx(lowest / 10)
    assert result.suggested_min == pytest.approx(lowest / 100)


def test_the_rates_are_those_the_weights_moved_by():
    # A loss that is linear in the weight, so that every step of SGD moves it by the rate.
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(1.0), lambda y, out: out)
    ones = np.ones((4, 1), np.float32)
    model.layers[0].set_weights([np.array([[50.0]])])
    result = lr_range_test(
        model, tf.data.Dataset.from_tensor_slices((ones, ones)).batch(4), 0.1, 1.0, steps=10
    )
    seen = -np.diff(result.losses)
    np.testing.assert_allclose(seen, result.lrs[:-1], rtol=1e-4)


def test_the_caller_loses_nothing():
    model = make_model(keras.optimizers.Adam(Triangular(1e-4, 1e-2, 10)))
    model.fit(batches(), epochs=1, shuffle=False, verbose=0)
    optimizer, history = model.optimizer, model.history
    variables = [*model.variables, *optimizer.variables]
    before = [variable.numpy() for variable in variables]
    lr_range_test(model, batches(), max_lr=1e4, steps=30)
    assert model.optimizer is optimizer
    assert model.history is history
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)

    model.fit(batches(), epochs=1, shuffle=False, verbose=0)  # with the caller's optimizer again
    assert int(optimizer.iterations.numpy()) == 20


def test_weights_return_after_an_error_too():
    model = make_model()
    before = model.get_weights()
    broken = batches().take(3).map(lambda x, y: (tf.debugging.check_numerics(x, "bad"), y))
    broken = broken.concatenate(
        batches().take(1).map(lambda x, y: (tf.debugging.check_numerics(x / 0.0, "bad"), y))
    )
    optimizer = model.optimizer
    with pytest.raises(tf.errors.InvalidArgumentError):
        lr_range_test(model, broken, steps=20)
    assert model.optimizer is optimizer
    for weight, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_it_stops_where_the_loss_diverges():
    result = lr_range_test(make_model(keras.optimizers.SGD(0.1)), batches(), 1e-2, 1e6, steps=100)
    assert len(result.lrs) < 100
    assert np.isfinite(result.losses).all()
    assert result.lrs[-1] > result.suggested_max * 10


def test_it_stops_where_the_loss_is_not_finite():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    result = lr_range_test(
        model, batches(X, Y.astype(np.float32)), 1e-3, 1e30, steps=40, diverged=1e300
    )
    assert len(result.lrs) < 40
    assert np.isfinite(result.losses).all()
    assert np.isfinite(model.get_weights()[0]).all()


@pytest.mark.parametrize(
    ("optimizer", "max_lr"),
    [(keras.optimizers.Adam, 1.0), (lambda rate: keras.optimizers.SGD(rate, momentum=0.9), 10.0)],
)
def test_the_suggestion_trains(optimizer, max_lr):
    found = lr_range_test(make_model(optimizer(1e-3)), batches(), max_lr=max_lr, steps=100)
    schedule = Triangular(found.suggested_min, found.suggested_max, 20)
    model = make_model(optimizer(schedule))
    losses = model.fit(batches(), epochs=20, shuffle=False, verbose=0).history["loss"]
    assert losses[-1] < 0.6 * losses[0]


def test_loss_scaling_optimizers_are_copied():
    inner = keras.optimizers.Adam(1e-3)
    model = make_model(keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0))
    result = lr_range_test(model, batches(), steps=20)
    assert model.optimizer.inner_optimizer is inner
    assert len(result.lrs) == 20


def test_a_loss_that_never_falls_suggests_nothing():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", lambda y, out: 0.0 * out + 1.0)
    with pytest.raises(UndecidedError, match="never fell"):
        lr_range_test(model, batches(), steps=10)


def curve(losses, lrs, smoothing=0.0):
    """What `lr_range_test` makes of a curve, the average included."""
    probe = lr_range._Probe(lrs[0], lrs[1] / lrs[0], smoothing, 2.0)
    probe.lrs, probe.losses, probe.smoothed = list(lrs), list(losses), list(losses)
    return lr_range._judge(probe, 10.0)


def test_images_learned_by_heart_leave_the_steepest_part_of_the_curve():
    # The loss decays at a rate that grows with the learning rate up to 0.005, then slower.
    lrs = np.geomspace(1e-5, 1e-1, 200)
    decay = 0.1 * np.exp(-(np.log(lrs / 0.005) ** 2) / 2)
    losses = np.exp(-np.cumsum(decay))
    assert losses[-1] < 0.1 * losses[0]
    found = curve(losses, lrs)
    assert found.suggested_max == pytest.approx(0.005, rel=0.15)
    assert found.suggested_min == pytest.approx(found.suggested_max / 10)
    # The same curve above a loss that no rate can take away is judged by its lowest point.
    assert curve(losses + 1.0, lrs).suggested_max == pytest.approx(lrs[-1] / 10)


def test_batches_that_differ_by_more_than_the_loss_falls_decide_nothing():
    lrs = np.geomspace(1e-5, 1e-1, 100)
    losses = 1.0 + np.linspace(0.1, 0.0, 100) + 0.3 * np.random.default_rng(0).normal(size=100)
    probe = lr_range._Probe(lrs[0], lrs[1] / lrs[0], 0.9, 2.0)
    probe.lrs, probe.losses = list(lrs), list(losses)
    probe.smoothed = list(np.linspace(1.1, 1.0, 100))
    with pytest.raises(UndecidedError, match="never fell"):
        lr_range._judge(probe, 10.0)


def test_the_curve_is_written_whole(tmp_path):
    result = LRRange([0.1, 0.2, 0.4], [2.0, 1.0, 3.0], [2.0, 1.5, 2.1], 0.01, 0.1)
    write_curve(result, tmp_path / "curve")
    write_curve(result, tmp_path / "curve")  # again, over what is there
    files = sorted(path.name for path in (tmp_path / "curve").iterdir())
    assert files == ["lr_range.csv", "lr_range.png"]
    with (tmp_path / "curve" / "lr_range.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["learning_rate", "loss", "smoothed_loss"]
    assert [[float(cell) for cell in row] for row in rows][1] == [0.2, 1.0, 1.5]
    assert (tmp_path / "curve" / "lr_range.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_lr": 0.0}, "min_lr=0.0"),
        ({"min_lr": 1.0, "max_lr": 0.1}, "max_lr=0.1"),
        ({"max_lr": float("inf")}, "max_lr=inf"),
        ({"steps": 9}, "Received: 9"),
        ({"smoothing": 1.0}, "smoothing"),
        ({"diverged": 1.0}, "diverged=1.0"),
        ({"safety": 0.5}, "safety=0.5"),
    ],
)
def test_arguments_that_make_no_test_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        lr_range_test(make_model(), batches(), **arguments)


@pytest.mark.parametrize("data", [(X, Y), (tf.constant(X),), ([X, Y],)])
def test_what_comes_in_no_data_set_is_refused(data):
    kind = type(data[0]).__name__
    with pytest.raises(UserError, match=rf"Received: dataset of the type {kind}\. .*\(x, y\)"):
        lr_range_test(make_model(), *data)


def test_models_that_cannot_train_yet_are_refused():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    with pytest.raises(UserError, match="not compiled"):
        lr_range_test(model, batches())
    unbuilt = keras.Sequential([keras.layers.Dense(4)])
    unbuilt.compile("sgd", "mse")
    with pytest.raises(UserError, match="has none yet"):
        lr_range_test(unbuilt, batches())
