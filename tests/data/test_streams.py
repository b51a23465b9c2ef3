import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from pnil_tf.data import ImageSet, batches, training_stream
from pnil_tf.errors import UserError


def numbered(n, side=1):
    """Images whose label is their own index."""
    pixels = np.arange(n * side * side, dtype=np.int64) % 256
    return ImageSet(pixels.astype(np.uint8).reshape(n, side, side, 1), np.arange(n, dtype=np.int32))


def take(stream, steps):
    return list(itertools.islice(stream.as_numpy_iterator(), steps))


def epochs_of(images, batch_size, seed, epochs, start_step=0):
    steps = len(images) // batch_size
    batch = take(training_stream(images, batch_size, seed, start_step), steps * epochs)
    return np.stack([y for _, y in batch]).reshape(epochs, steps * batch_size)


@given(
    n=st.integers(1, 40),
    data=st.data(),
    seed=st.integers(-(2**40), 2**40),
    start=st.integers(0, 60),
)
@settings(max_examples=12, deadline=None)
def test_a_stream_from_any_step_is_the_tail_of_the_undisturbed_one(n, data, seed, start):
    images = numbered(n, side=2)
    batch_size = data.draw(st.integers(1, n))
    whole = take(training_stream(images, batch_size, seed), start + 5)
    resumed = take(training_stream(images, batch_size, seed, start), 5)
    for (x, y), (x_resumed, y_resumed) in zip(whole[start:], resumed, strict=True):
        np.testing.assert_array_equal(x, x_resumed)
        np.testing.assert_array_equal(y, y_resumed)


@given(n=st.integers(1, 200), data=st.data(), seed=st.integers(0, 2**33))
@settings(max_examples=12, deadline=None)
def test_every_epoch_visits_distinct_images(n, data, seed):
    batch_size = data.draw(st.integers(1, n))
    for epoch in epochs_of(numbered(n), batch_size, seed, epochs=3):
        assert len(set(epoch)) == len(epoch) == n // batch_size * batch_size
        assert set(epoch) <= set(range(n))


def test_epochs_and_seeds_differ():
    first, second = epochs_of(numbered(500), 50, seed=1, epochs=2)
    (other,) = epochs_of(numbered(500), 50, seed=2, epochs=1)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, other)
    # Two independent permutations of 500 agree in one place on average (a Poisson count).
    assert (first == second).sum() < 10
    assert (first == other).sum() < 10


def test_the_remainder_that_an_epoch_drops_differs_between_epochs():
    seen = epochs_of(numbered(15), 4, seed=0, epochs=30)
    assert set(seen.ravel()) == set(range(15))


def test_the_order_has_no_trend():
    # With an ordered set, mean index and lag-1 correlation betray a poor shuffle at once.
    orders = epochs_of(numbered(10_000), 100, seed=3, epochs=4).astype(float)
    standardised = (orders - 4999.5) / np.sqrt((10_000**2 - 1) / 12)
    lag_1 = (standardised[:, 1:] * standardised[:, :-1]).mean(axis=1)
    with_position = (standardised * np.linspace(-1.732, 1.732, 10_000)).mean(axis=1)
    # Both have a standard deviation of 0.01.
    assert np.abs(lag_1).max() < 0.045
    assert np.abs(with_position).max() < 0.045


def test_pixels_are_floats_from_0_to_1():
    images = ImageSet(
        np.array([0, 51, 255], np.uint8).reshape(3, 1, 1, 1), np.array([2, 0, 1], np.int32)
    )
    ((x, y),) = take(batches(images, 3), 2)
    assert x.dtype == np.float32
    assert y.dtype == np.int32
    np.testing.assert_array_equal(x.ravel(), np.array([0, 51, 255], np.float32) / 255)
    np.testing.assert_array_equal(y, [2, 0, 1])
    for x, _ in take(training_stream(images, 1, seed=0), 3):
        assert x.dtype == np.float32


def test_images_keep_their_labels():
    images = numbered(100, side=3)
    for x, y in take(training_stream(images, 7, seed=5), 20):
        np.testing.assert_array_equal(np.round(x * 255).astype(np.uint8), images.images[y])


@pytest.mark.parametrize(("drop", "sizes"), [(False, [4, 4, 2]), (True, [4, 4])])
def test_batches_go_through_all_images_in_order(drop, sizes):
    batch = take(batches(numbered(10), 4, drop_remainder=drop), 9)
    assert [len(y) for _, y in batch] == sizes
    np.testing.assert_array_equal(np.concatenate([y for _, y in batch]), np.arange(sum(sizes)))


def test_keras_sees_an_endless_and_a_finite_set_of_fixed_shape():
    stream = training_stream(numbered(10, side=2), 4, seed=0)
    assert stream.cardinality() == tf.data.INFINITE_CARDINALITY
    assert stream.element_spec[0].shape == (4, 2, 2, 1)
    assert batches(numbered(10), 4).cardinality() == 3


def test_no_copy_of_the_images_enters_the_graph():
    images = numbered(1000, side=10)
    stream = training_stream(images, 10, seed=0)
    assert images.tensors[0] is images.tensors[0]
    functions = stream._functions() + [
        function for parent in stream._inputs() for function in parent._functions()
    ]
    for function in functions:
        assert len(function.function.graph.as_graph_def().SerializeToString()) < 50_000


def test_streams_and_wrong_settings():
    with pytest.raises(UserError, match="batch of 11 and 10 images"):
        training_stream(numbered(10), 11, seed=0)
    with pytest.raises(UserError, match="Received: -1"):
        training_stream(numbered(10), 2, seed=0, start_step=-1)
    for stream in (
        lambda: training_stream(numbered(10), 0, seed=0),
        lambda: batches(numbered(3), 0),
    ):
        with pytest.raises(UserError, match="at least 1"):
            stream()
