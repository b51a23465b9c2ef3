"""The EOT gradient: right in closed form, and independent of how it is computed."""

import itertools
import re

import numpy as np
import pytest
import tensorflow as tf
from classifiers import NoisyLinear, second_logit
from hypothesis import given, settings
from hypothesis import strategies as st

from pnil_tf import rng
from pnil_tf.attacks import eot
from pnil_tf.attacks.eot import EOT, cross_entropy, eot_gradient, eot_look, peak_scaled
from pnil_tf.attacks.losses import wrong
from pnil_tf.errors import UserError


def test_gradient_on_noisy_linear_model_converges_as_one_over_root_draws():
    model = NoisyLinear()
    x = tf.random.stateless_uniform((64, 4, 4, 1), [1, 1])
    one_draw = np.sqrt((model.gradient_spread(x) ** 2).mean())

    @tf.function(autograph=False)
    def gradient(seed, draws):
        return eot_gradient(model, second_logit, x, tf.zeros(64), seed, EOT(draws, chunk=4))[1]

    for draws in (1, 40, 1000):
        errors = gradient(rng.make_seed(draws), draws) - model.w
        rms = np.sqrt(np.mean(np.square(errors)))
        # 1,024 numbers: the RMS itself is known to about 3 %.
        assert rms == pytest.approx(one_draw / np.sqrt(draws), rel=0.12)


@pytest.mark.parametrize("average", ["loss", "logits"])
def test_one_antithetic_pair_is_exact_where_the_error_is_odd(average):
    model = NoisyLinear()
    x = tf.fill((3, 4, 4, 1), 0.4)
    eot = EOT(draws=2, antithetic=True, average=average)
    _, gradient = eot_gradient(model, second_logit, x, tf.zeros(3), rng.make_seed(0), eot)
    np.testing.assert_allclose(gradient, np.broadcast_to(model.w, (3, 4, 4, 1)), atol=1e-5)


def test_images_that_see_each_other_get_the_gradient_of_the_loss_of_all():
    scale = np.array([1.0, 30.0, 3.0, 0.1], np.float32).reshape(4, 1, 1, 1)  # unlike slopes
    x = tf.constant(np.random.default_rng(0).normal(size=(4, 4, 4, 1)).astype(np.float32) * scale)
    kernel = tf.constant(np.random.default_rng(1).normal(size=(16, 3)).astype(np.float32))
    labels = tf.constant([0, 1, 2, 0])

    def predict(images):
        flat = tf.reshape(images, [-1, 16])
        return (flat - tf.reduce_mean(flat, 0)) / tf.math.reduce_std(flat, 0) @ kernel

    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(cross_entropy(labels, predict(x)))
    expected = tape.gradient(total, x)
    found, lone = (
        eot_gradient(predict, cross_entropy, x, labels, rng.make_seed(0), EOT(), alone=alone)[1]
        for alone in (False, True)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert np.abs(lone - expected).max() > 1e-2


@settings(max_examples=8, deadline=None)
@given(
    draws=st.integers(1, 7),
    chunk=st.integers(1, 8),
    antithetic=st.booleans(),
    average=st.sampled_from(["loss", "logits"]),
    seed=st.integers(0, 2**40),
)
def test_chunks_change_neither_loss_nor_gradient(draws, chunk, antithetic, average, seed):
    model = NoisyLinear()
    x = tf.fill((2, 4, 4, 1), 0.5)
    y = tf.constant([0, 1])
    together, apart = (
        eot_gradient(
            model, cross_entropy, x, y, rng.make_seed(seed), EOT(draws, size, antithetic, average)
        )
        for size in (chunk, 1)
    )
    np.testing.assert_allclose(together[0], apart[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(together[1], apart[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "stacked"), [((28, 28, 1), 8), ((32, 32, 3), 8), ((96, 96, 3), 2), ((224, 224, 3), 1)]
)
def test_draws_of_large_images_are_not_stacked(shape, stacked):
    seen = []

    def predict(images):
        seen.append(len(images))
        return tf.reduce_mean(images, axis=(1, 2))

    eot_gradient(
        predict,
        cross_entropy,
        tf.zeros((3, *shape)),
        tf.zeros(3, tf.int32),
        rng.make_seed(0),
        EOT(8, 8),
    )
    assert seen == [3 * stacked] * (8 // stacked)


def test_average_of_logits_is_the_gradient_of_the_mean_logits_loss():
    model = NoisyLinear()
    x = tf.fill((2, 4, 4, 1), 0.5)
    y = tf.constant([0, 1])
    seed = rng.make_seed(4)
    with tf.GradientTape() as tape:
        tape.watch(x)
        draws = []
        for d in range(5):
            with rng.noise_scope(rng.fold(seed, d)):
                draws.append(model(x))
        values = cross_entropy(y, tf.add_n(draws) / 5.0)
    loss, gradient = eot_gradient(model, cross_entropy, x, y, seed, EOT(5, 2, average="logits"))
    np.testing.assert_allclose(loss, values, rtol=1e-5)
    np.testing.assert_allclose(gradient, tape.gradient(values, x), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("average", ["loss", "logits"])
def test_draws_without_an_answer_are_left_out_of_the_means(average):
    """Of five draws the third answers NaN to the first image, and all to the last one."""
    w = np.random.default_rng(1).normal(size=(16, 3)).astype(np.float32)
    x, y = tf.fill((3, 4, 4, 1), 0.5), tf.constant([0, 1, 2])
    silent = [tf.constant([d == 2, False, True]) for d in range(5)]

    def model(draws):
        kept = iter(draws)

        def predict(x):
            d = next(kept)
            logits = tf.exp(0.1 * d) * (tf.reshape(x, [-1, 16]) @ w) + tf.constant([0.0, d, 0.0])
            return logits * tf.where(silent[d], np.nan, 1.0)[:, tf.newaxis]

        return predict

    def mean(draws):
        of_draws = EOT(len(draws), average=average)
        repeated = [*draws, *draws] if average == "logits" else draws  # its passes are two
        return eot_look(
            model(repeated), cross_entropy, wrong, x, y, rng.make_seed(0), of_draws, unroll=True
        )

    values, gradient, share = mean([0, 1, 2, 3, 4])
    without, slope, _ = mean([0, 1, 3, 4])
    all_of_them, steepest, _ = mean([0, 1, 4, 3, 2])
    np.testing.assert_allclose(values[:2], [without[0], all_of_them[1]], rtol=1e-5)
    np.testing.assert_allclose(gradient[0], slope[0], rtol=1e-5)
    np.testing.assert_allclose(gradient[1], steepest[1], rtol=1e-5)
    assert np.isfinite(gradient[:2]).all()
    assert np.isnan(values[2])
    assert np.isnan(gradient[2]).all()
    assert share[2] == 1.0  # to have no answer is to be wrong


@pytest.mark.parametrize("draws", [1, 3, 10])
def test_leaving_out_changes_no_bit_where_all_draws_answer(draws, monkeypatch):
    """Against the plain mean, in a graph: there a division by a constant is a multiplication."""
    model = NoisyLinear()
    x, y, seed = tf.fill((2, 4, 4, 1), 0.5), tf.constant([0, 1]), rng.make_seed(4)

    def found():
        return tf.function(
            lambda: eot_look(model, cross_entropy, wrong, x, y, seed, EOT(draws, chunk=2)),
            autograph=False,
        )()

    ours = found()
    monkeypatch.setattr(
        eot._Draws,
        "told",
        lambda self, stacked, count, also=True: (eot._unstack_sum(stacked, count), tf.ones([])),
    )
    monkeypatch.setattr(eot._Draws, "mean", lambda self, total, number: total / float(draws))
    for mean, plain in zip(ours, found(), strict=True):
        np.testing.assert_array_equal(mean, plain)


@pytest.mark.parametrize("function", [eot_gradient, eot_look])
def test_a_callers_graph_translates_it(function):
    """Else TensorFlow warns whoever crafts within a `tf.function`, at the first trace."""
    tf.autograph.to_graph(function)


def test_unrolled_draws_wait_for_one_another():
    @tf.function(autograph=False)
    def gradient(x):
        def model(images):
            return tf.reduce_sum(images, axis=[1, 2], name="look")

        labels = tf.zeros([2], tf.int32)
        return eot_gradient(model, cross_entropy, x, labels, rng.make_seed(0), EOT(3), True)[1]

    graph = gradient.get_concrete_function(tf.zeros([2, 4, 4, 3])).graph
    looks = [op for op in graph.get_operations() if re.fullmatch(r"look(_\d)?", op.name)]
    for earlier, later in itertools.pairwise(looks):
        before, waiting = set(), [later]
        while waiting:
            op = waiting.pop()
            new = {*op.control_inputs, *(tensor.op for tensor in op.inputs)} - before
            before |= new
            waiting += new
        assert earlier in before
    assert len(looks) == 3


def test_unrolled_draws_equal_the_loop():
    model = NoisyLinear()
    x, y, seed = tf.fill((2, 4, 4, 1), 0.5), tf.constant([0, 1]), rng.make_seed(4)

    @tf.function(autograph=False)
    def gradient(unroll):
        return eot_gradient(model, cross_entropy, x, y, seed, EOT(5, 2), unroll)[1]

    np.testing.assert_allclose(gradient(True), gradient(False), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("average", ["loss", "logits"])
@pytest.mark.parametrize("gap", [0.0, 5.0, 20.0, 60.0])
def test_a_confident_float16_classifier_has_the_gradient_of_the_float32_one(gap, average):
    w = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)

    def classifier(dtype):
        def predict(x):
            hidden = tf.cast(tf.reshape(x, [-1, 16]), dtype) @ tf.cast(w, dtype)
            return hidden + tf.constant([gap, 0, 0], dtype)

        return predict

    x, y, seed = tf.fill((2, 4, 4, 1), 0.5), tf.constant([0, 1]), rng.make_seed(4)
    eot = EOT(3, 2, average=average)
    half, single = (
        eot_gradient(classifier(dtype), cross_entropy, x, y, seed, eot)[1].numpy()
        for dtype in ("float16", "float32")
    )
    assert np.abs(single).max(axis=(1, 2, 3)).min() > 0
    for a, b in zip(half, single, strict=True):
        np.testing.assert_allclose(a, b, rtol=0.05, atol=0.02 * np.abs(b).max())


def test_the_size_within_the_network_changes_no_bit():
    w = tf.constant(np.random.default_rng(0).normal(size=(16, 3)), tf.float32)
    x, y = tf.fill((4, 4, 4, 1), 0.3), tf.constant([0, 1, 2, 0])

    def predict(x):
        return tf.nn.relu(tf.reshape(x, [-1, 16])) @ w

    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(cross_entropy(y, predict(x)))
    found = eot_gradient(predict, cross_entropy, x, y, rng.make_seed(0), EOT())[1]
    np.testing.assert_array_equal(found, tape.gradient(total, x))


def test_peak_scaled_keeps_the_direction_and_zeros():
    gradient = np.zeros((3, 2, 2, 1), np.float32)
    gradient[0], gradient[1, 0, 0, 0] = 1e-20, -3e30
    np.testing.assert_array_equal(
        peak_scaled(tf.constant(gradient))[:, 0, 0, 0], np.float32([1, -1, 0])
    )


def test_own_noise_of_a_black_box_is_drawn_anew_for_each_draw():
    w = tf.ones((4, 4, 1))

    def predict(x):  # knows no noise scope
        value = tf.reduce_sum(x * w * tf.random.normal(tf.shape(x)), axis=[1, 2, 3])
        return tf.stack([tf.zeros_like(value), value], axis=1)

    @tf.function(autograph=False)
    def gradient(draws):
        x = tf.fill((32, 4, 4, 1), 0.5)
        seed = rng.make_seed(0)
        return eot_gradient(predict, second_logit, x, tf.zeros(32), seed, EOT(draws))[1]

    assert np.std(gradient(1)) == pytest.approx(1.0, rel=0.15)
    assert np.std(gradient(100)) == pytest.approx(0.1, rel=0.15)


def test_model_without_gradient_yields_zeros():
    def predict(x):
        return tf.stack([tf.zeros(len(x)), tf.round(x[:, 0, 0, 0])], axis=1)

    x = tf.fill((2, 4, 4, 1), 0.5)
    gradient = eot_gradient(predict, second_logit, x, tf.zeros(2), rng.make_seed(0), EOT())[1]
    assert not np.any(gradient)


@pytest.mark.parametrize(
    "wrong", [{"draws": 0}, {"draws": 2.5}, {"chunk": 0}, {"average": "votes"}]
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(UserError, match="Received"):
        EOT(**wrong)
