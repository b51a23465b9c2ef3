"""A convolution's own gradient is TensorFlow's, and the model is left as it was."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from pnil_tf.evaluation.target import as_target
from pnil_tf.input_gradient import input_gradient, quick_input_gradients
from pnil_tf.models import resnet11, small_cnn
from pnil_tf.training.model import AdversarialModel


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(5, 12),
    columns=st.integers(5, 12),
    kernel_rows=st.integers(1, 5),
    kernel_columns=st.integers(1, 5),
    stride=st.integers(1, 4),
    channels=st.integers(1, 4),
    padding=st.sampled_from(["SAME", "VALID"]),
)
def test_it_is_the_transposed_convolution(
    rows, columns, kernel_rows, kernel_columns, stride, channels, padding
):
    numbers = np.random.default_rng(0)
    kernel = numbers.normal(size=(kernel_rows, kernel_columns, channels, 3)).astype(np.float32)
    shape = (2, rows, columns, channels)
    output = tf.nn.conv2d(tf.zeros(shape), kernel, stride, padding)
    upstream = tf.constant(numbers.normal(size=output.shape), tf.float32)
    expected = tf.nn.conv2d_transpose(upstream, kernel, shape, stride, padding)
    found = input_gradient(upstream, tf.constant(kernel), (rows, columns), stride, padding)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def gradients(model, x):
    """Output, gradient of the images and of the weights."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = model(x)
        loss = tf.reduce_sum(outputs**2)
    return [outputs, *tape.gradient(loss, [x, *(w.value for w in model.trainable_weights)])]


def is_quick(function, *args):
    """Whether the graph of a function, its loops included, holds a gradient of ours."""
    graph = tf.function(function, autograph=False).get_concrete_function(*args).graph
    return "quick_input_gradient" in str(graph.as_graph_def())


@pytest.mark.parametrize(
    ("build", "shape"),
    [(small_cnn, (28, 28, 1)), (small_cnn, (15, 17, 3)), (resnet11, (16, 16, 3))],
)
def test_outputs_and_all_gradients_of_a_classifier_stay_the_same(build, shape):
    model = build(shape, 10, 16)
    x = tf.random.stateless_uniform((3, *shape), (1, 2))
    expected = gradients(model, x)
    with quick_input_gradients(model):
        found = gradients(model, x)
        assert is_quick(lambda x: gradients(model, x)[1], x)
    np.testing.assert_array_equal(found[0], expected[0])
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def test_second_derivatives_pass():
    model = keras.Sequential(
        [keras.Input((6, 6, 1)), keras.layers.Conv2D(2, 3, 2, activation="tanh")]
    )
    x = tf.random.stateless_uniform((1, 6, 6, 1), (1, 2))

    def curvature():
        with tf.GradientTape() as outer:
            outer.watch(x)
            first = gradients(model, x)[1]
            size = tf.reduce_sum(first**2)
        return outer.gradient(size, x)

    expected = curvature()
    with quick_input_gradients(model):
        np.testing.assert_allclose(curvature(), expected, atol=1e-5)


def test_training_and_evaluation_use_it_and_leave_the_model_alone(tmp_path):
    model = small_cnn((28, 28, 1), 10)
    layer = model.layers[0]
    before = set(layer.__dict__)
    x, y = tf.random.stateless_uniform((4, 28, 28, 1), (1, 2)), tf.constant([0, 1, 2, 3])

    def quick(predict):
        def gradient(images):
            with tf.GradientTape() as tape:
                tape.watch(images)
                value = tf.reduce_sum(predict(images))
            return tape.gradient(value, images)

        return is_quick(gradient, x)

    assert not quick(model)
    assert quick(as_target(model, x.numpy()).predict)
    adversarial = AdversarialModel(model, attack="fgsm", epsilon=0.1)
    adversarial.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert is_quick(lambda: adversarial.train_step((x, y)))
    assert is_quick(lambda: adversarial.test_step((x, y)))
    assert set(layer.__dict__) == before
    model.save(tmp_path / "model.keras")
    assert type(keras.models.load_model(tmp_path / "model.keras").layers[0]) is keras.layers.Conv2D


def test_a_failing_call_leaves_the_model_alone():
    model = small_cnn((28, 28, 1), 10)
    with pytest.raises(ZeroDivisionError), quick_input_gradients(model):
        raise ZeroDivisionError
    assert "convolution_op" not in model.layers[0].__dict__


class OwnConvolution(keras.layers.Conv2D):
    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, kernel) * 2.0


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Conv2D(4, 2),
        keras.layers.Conv2D(4, 3, strides=(1, 2)),
        keras.layers.Conv2D(4, 3, strides=2, groups=2),
        keras.layers.Conv2D(4, 3, strides=2, dtype="mixed_bfloat16"),
        keras.layers.DepthwiseConv2D(3, strides=2),
        OwnConvolution(4, 3, strides=2),
    ],
)
def test_other_layers_keep_their_gradient(layer):
    model = keras.Sequential([keras.Input((8, 8, 2)), layer])
    x = tf.ones((1, 8, 8, 2))
    with quick_input_gradients(model):
        assert "convolution_op" not in layer.__dict__
        assert not is_quick(lambda x: gradients(model, x)[1], x)


def test_images_of_no_static_size_keep_their_gradient():
    model = keras.Sequential([keras.Input((None, None, 1)), keras.layers.Conv2D(4, 3, 2)])
    with quick_input_gradients(model):
        found = gradients(model, tf.ones((1, 8, 8, 1)))[1]
        images = tf.TensorSpec((None, None, None, 1))
        assert not is_quick(lambda x: gradients(model, x)[1], images)
    np.testing.assert_allclose(found, gradients(model, tf.ones((1, 8, 8, 1)))[1], atol=1e-5)


def test_several_replicas_keep_their_gradient():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    model = small_cnn((28, 28, 1), 10)
    with strategy.scope(), quick_input_gradients(model):
        quick = "convolution_op" in model.layers[0].__dict__
    assert quick == (strategy.num_replicas_in_sync == 1)


@pytest.mark.parametrize("outer", [contextlib.nullcontext, tf.GradientTape])
def test_a_convolution_within_a_branch_keeps_the_gradient_of_tensorflow(outer):
    """Under two tapes TensorFlow would look for tensors of ours that are in no graph."""
    model, switch = small_cnn((8, 8, 1), 3, 4), tf.Variable(1.0)
    x = tf.random.stateless_uniform((2, 8, 8, 1), (1, 2))

    def branched(x):
        with outer() as watching, tf.GradientTape() as tape:
            for one in filter(None, (watching, tape)):
                one.watch(x)
            total = tf.reduce_sum(tf.cond(switch > 0.5, lambda: model(x), lambda: 2 * model(x)))
        return tape.gradient(total, x)

    with quick_input_gradients(model):
        found = tf.function(branched, autograph=False)(x)
    np.testing.assert_allclose(found, branched(x), atol=1e-5)
