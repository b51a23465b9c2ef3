"""The one rule for randomness: noise follows the scope's seed, and nothing else does."""

import warnings

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.layers import PNILLayer

SHAPE = tf.constant([4, 3])


def noise(training=False):
    return rng.layer_noise(SHAPE, training).numpy()


def test_seeds_are_pairs_that_differ_with_every_part_and_its_place():
    parts = [(0,), (1,), (2,), (0, 0), (0, 1), (1, 0), (2**31,), (2**40 + 1,), (2**40 + 2,)]
    seeds = {tuple(rng.make_seed(*p).numpy()) for p in parts}
    assert len(seeds) == len(parts)
    assert rng.make_seed(5).dtype == tf.int32
    np.testing.assert_array_equal(rng.make_seed(7, 8), rng.make_seed(7, 8))


def test_folding_takes_python_ints_and_tensors_alike():
    seed = rng.make_seed(1)
    for number in (tf.constant(3, tf.int32), tf.constant(3, tf.int64)):
        np.testing.assert_array_equal(rng.fold(seed, 3), rng.fold(seed, number))
    assert (rng.fold(seed, 3).numpy() != rng.fold(seed, 4).numpy()).any()


def test_a_seed_is_folded_as_tensorflow_does_and_adds_few_operations_to_a_graph():
    seed = rng.make_seed(9)
    word = tf.random.stateless_uniform([], seed, None, None, tf.int32, alg="philox")
    np.testing.assert_array_equal(rng.fold(seed, 4), [word, 4])

    @tf.function
    def folded(seed):
        return rng.fold(seed, 4)

    np.testing.assert_array_equal(folded(seed), rng.fold(seed, 4))
    assert len(folded.get_concrete_function(seed).graph.get_operations()) < 10


def test_the_only_replica_has_the_number_zero():
    seed = rng.make_seed(1)
    np.testing.assert_array_equal(rng.replica_seed(seed), rng.fold(seed, 0))


def test_uniform_and_normal_noise_have_their_moments():
    seed = rng.make_seed(3)
    uniform = rng.uniform([100_000], seed, 0.3).numpy()
    assert -0.3 <= uniform.min() < -0.299
    assert 0.299 < uniform.max() < 0.3
    assert abs(uniform.mean()) < 0.003
    normal = rng.normal([100_000], seed).numpy()
    assert abs(normal.mean()) < 0.015
    assert abs(normal.std() - 1.0) < 0.01
    assert uniform.dtype == normal.dtype == np.float32


def test_normal_noise_is_normal():
    values = rng.normal([100_000], rng.make_seed(4)).numpy()
    assert scipy.stats.kstest(values, "norm").pvalue > 0.01
    # The two numbers that come from one pair of uniform ones tell nothing of each other.
    first, second = values[:50_000], values[50_000:]
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.015
    assert abs(np.corrcoef(first**2, second**2)[0, 1]) < 0.015
    assert 4.0 < np.abs(values).max() < 6.0


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 7, 7, 1), (4, 28, 28, 1), (0, 3)])
def test_the_noise_of_several_seeds_is_that_of_each(shape):
    seeds = [rng.make_seed(number) for number in range(3)]
    alone = [rng.normal(shape, seed).numpy() for seed in seeds]
    assert all(noise.shape == shape and np.isfinite(noise).all() for noise in alone)
    together = rng.normal(shape, *seeds, signs=[1, -1, 1]).numpy()
    expected = np.concatenate([alone[0], -alone[1], alone[2]])
    np.testing.assert_allclose(together, expected, rtol=1e-5, atol=1e-6)


def test_a_scope_repeats_its_noise_and_its_calls_differ():
    with rng.noise_scope(5):
        first, second = noise(), noise()
    with rng.noise_scope(rng.make_seed(5)):
        again = noise(training=True)
    np.testing.assert_array_equal(first, again)
    assert not np.isclose(first, second).any()
    with rng.noise_scope(6):
        assert not np.isclose(first, noise()).any()


def test_scopes_nest_and_end():
    with rng.noise_scope(1):
        outer = noise()
        with rng.noise_scope(2):
            inner = noise()
        after = noise()
    with rng.noise_scope(2):
        np.testing.assert_array_equal(inner, noise())
    with rng.noise_scope(1):
        np.testing.assert_array_equal(outer, noise())
        np.testing.assert_array_equal(after, noise())
    assert not np.isclose(noise(), noise()).any()


def test_a_scope_ends_with_an_error_too():
    with pytest.raises(RuntimeError, match="inside"), rng.noise_scope(1):
        raise RuntimeError("inside")
    assert not np.isclose(noise(), noise()).any()


def test_noise_off_is_silence():
    with rng.noise_off():
        assert not noise().any()
        assert not noise(training=True).any()


def test_stacked_draws_have_the_noise_they_have_alone():
    with rng.noise_scope(1, 2):
        stacked = noise()
    for i, seed in enumerate((1, 2)):
        with rng.noise_scope(seed):
            alone = rng.layer_noise(SHAPE // [2, 1], False).numpy()
        np.testing.assert_array_equal(stacked[2 * i : 2 * i + 2], alone)


def test_signs_make_antithetic_pairs():
    with rng.noise_scope(1, 1, signs=[1.0, -1.0]):
        pair = noise()
    np.testing.assert_array_equal(pair[:2], -pair[2:])
    with rng.noise_scope(1, signs=[-1.0]):
        negative = noise()
    with rng.noise_scope(1):
        np.testing.assert_array_equal(negative, -noise())


def test_a_scope_inside_a_function_follows_a_tensor_seed():
    @tf.function
    def draw(seed):
        with rng.noise_scope(seed):
            return rng.layer_noise(SHAPE, False)

    with rng.noise_scope(9):
        eager = noise()
    np.testing.assert_array_equal(draw(rng.make_seed(9)), eager)
    assert not np.isclose(draw(rng.make_seed(10)), eager).any()


def test_a_scope_reaches_into_loops_of_its_function():
    @tf.function
    def draws(seed):
        with rng.noise_scope(seed):
            return tf.while_loop(
                lambda i, _: i < 2,
                lambda i, _: (i + 1, rng.layer_noise(SHAPE, False)),
                (0, tf.zeros(SHAPE)),
            )[1]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(draws(rng.make_seed(2)), draws(rng.make_seed(2)))


def test_a_function_traced_inside_a_scope_warns_and_stays_fresh():
    draw = tf.function(lambda: rng.layer_noise(SHAPE, False))
    with rng.noise_scope(1), pytest.warns(UserWarning, match="inside a pnil_tf noise scope"):
        first = draw()
    assert not np.isclose(first, draw()).any()
    with rng.noise_scope(1):
        assert not np.isclose(first, draw()).any()


def test_training_noise_follows_the_global_seed_and_inference_noise_does_not():
    drawn = {True: [], False: []}
    for _ in range(2):
        for training, draws in drawn.items():
            tf.random.set_seed(3)
            draws.append(noise(training))
    np.testing.assert_array_equal(*drawn[True])
    assert not np.isclose(*drawn[False]).any()


def test_inference_noise_in_a_graph_ignores_the_global_seed():
    drawn = []
    for _ in range(2):
        tf.random.set_seed(3)
        drawn.append(tf.function(lambda: rng.layer_noise(SHAPE, False))().numpy())
    assert not np.isclose(*drawn).any()


def random_model():
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dropout(0.5),
            keras.layers.BatchNormalization(),
            keras.layers.GaussianNoise(1.0),
        ]
    )


def test_stateless_layers_follow_the_scope_and_leave_no_trace():
    model, x = random_model(), tf.random.stateless_uniform([8, 6], [1, 2])
    before = [variable.numpy() for variable in model.variables]

    def run(seed):
        with rng.noise_scope(seed), rng.stateless_layers(model):
            return model(x, training=True).numpy()

    np.testing.assert_array_equal(run(1), run(1))
    assert not np.allclose(run(1), run(2))
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


class Counting(keras.layers.Layer):
    """Draws by a generator that is no part of it, and counts its calls."""

    def __init__(self, shared):
        super().__init__()
        self._draw = lambda x: keras.random.normal(keras.ops.shape(x), seed=shared)
        self.calls = self.add_weight(shape=(), dtype="int32", trainable=False)

    def call(self, x):
        self.calls.assign_add(1)
        return x + self._draw(x)


@pytest.mark.parametrize("in_graph", [False, True])
def test_stateless_layers_leave_the_generators_of_others_running(in_graph):
    shared = keras.random.SeedGenerator(1)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dropout(0.5), Counting(shared)])
    x, before = tf.ones([8, 6]), shared.state.numpy()

    def run(seeds_alone):
        with rng.noise_scope(0), rng.stateless_layers(model, seeds_alone=seeds_alone):
            return model(x)

    run = tf.function(run) if in_graph else run
    assert not np.isclose(run(False), run(False)).any()
    assert int(model.layers[-1].calls.numpy()) == 0
    assert not np.isclose(run(True), run(True)).any()
    assert int(model.layers[-1].calls.numpy()) == 2
    assert not np.array_equal(shared.state, before)


def test_stateless_layers_within_others_leave_no_trace_that_those_forbid():
    shared = keras.random.SeedGenerator(1)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dropout(0.5), Counting(shared)])
    x, before = tf.ones([8, 6]), shared.state.numpy()
    with keras.StatelessScope(), rng.noise_scope(0):
        for _ in range(2):
            with rng.stateless_layers(model, seeds_alone=True) as scope:
                model(x)
        assert int(scope.get_current_value(model.layers[-1].calls)) == 2
    assert int(model.layers[-1].calls.numpy()) == 0
    np.testing.assert_array_equal(shared.state, before)


def test_reseeding_repeats_stock_layers():
    model, x = random_model(), tf.ones([8, 6])

    def run(seed):
        rng.reseed_layers(model, rng.make_seed(seed))
        return model(x, training=True).numpy()

    np.testing.assert_array_equal(run(1), run(1))
    assert not np.allclose(run(1), run(2))


@pytest.mark.parametrize("number", [3, 2**31 - 1, 2**31, 2**70])
def test_seeds_of_python_ints_are_the_same_inside_a_function(number):
    inside = tf.function(lambda: rng.make_seed(number))()
    np.testing.assert_array_equal(inside, rng.make_seed(number))
    np.testing.assert_array_equal(
        tf.function(lambda: rng.make_seed(number), jit_compile=True)(), inside
    )


def test_a_noise_layer_and_a_stock_one_under_one_seed_are_independent():
    for seed in range(20):
        pnil, stock = PNILLayer(), keras.layers.GaussianNoise(1.0)
        model = keras.Sequential([keras.Input((400,)), pnil, stock])
        pair = rng.make_seed(seed)
        rng.reseed_layers(model, pair)
        with rng.noise_scope(pair):
            first = pnil(tf.zeros((2, 400)), training=True)
        second = stock(tf.zeros((2, 400)), training=True)
        correlation = np.corrcoef(np.ravel(first), np.ravel(second))[0, 1]
        assert abs(correlation) < 0.2, seed


def test_noise_can_be_given():
    layer, x = PNILLayer(initial_sigma=1.0), tf.zeros([2, 3])
    with rng.noise_from(lambda shape, call: tf.fill(shape, call + 1.0)):
        first, second = layer(x), layer(x)
    np.testing.assert_array_equal(first, np.ones([2, 3]))
    np.testing.assert_array_equal(second, 2 * np.ones([2, 3]))
    assert np.all(layer(x))


def test_fresh_seeds_follow_no_seed():
    """Not even one that was set before: its graph may be exported."""
    seeds = []
    for _ in range(2):
        tf.random.set_seed(3)
        seeds.append(tuple(tf.function(rng.fresh_seed)().numpy()))
    assert seeds[0] != seeds[1]
