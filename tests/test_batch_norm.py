"""Fused batch normalization is Keras', and the model is left as it was."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf.batch_norm import fused_batch_norm
from pnil_tf.models import resnet11
from pnil_tf.training.model import AdversarialModel

BatchNormalization = keras.layers.BatchNormalization


def is_fused(function, *args):
    """Whether the graph of a function holds the fused operation."""
    graph = tf.function(function, autograph=False).get_concrete_function(*args).graph
    return "FusedBatchNorm" in str(graph.as_graph_def())


def pass_of(model, x, training=True):
    """Outputs, gradients of images and weights, and the new statistics, which are put back."""
    before = [v.numpy() for v in model.non_trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = model(x, training=training)
        loss = tf.reduce_sum(tf.cast(outputs, tf.float32) ** 2)
    found = [outputs, *tape.gradient(loss, [x, *(w.value for w in model.trainable_weights)])]
    found += [v.numpy() for v in model.non_trainable_variables]
    for variable, value in zip(model.non_trainable_variables, before, strict=True):
        variable.assign(value)
    return found


def close(found, expected, tolerance):
    for ours, theirs in zip(found, expected, strict=True):
        ours, theirs = (np.asarray(tf.cast(array, tf.float32)) for array in (ours, theirs))
        np.testing.assert_allclose(ours, theirs, atol=tolerance * max(1.0, np.abs(theirs).max()))


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("shape", [(5, 6, 4, 3), (1, 1, 1, 2)])
def test_it_is_what_keras_computes(shape, scale):
    layer = BatchNormalization(scale=scale, center=scale, momentum=0.8, epsilon=0.1)
    model = keras.Sequential([keras.Input(shape[1:]), layer])
    for number, variable in enumerate(model.variables):
        variable.assign(np.full(variable.shape, 0.5 + number))
    x = 5 + 2 * tf.random.stateless_normal(shape, (1, 2))
    expected = pass_of(model, x)
    with fused_batch_norm(model):
        close(pass_of(model, x), expected, 1e-4)
        assert is_fused(lambda x: model(x, training=True), x)


def test_a_classifier_s_outputs_gradients_and_statistics_stay_the_same():
    keras.utils.set_random_seed(0)
    model = resnet11((16, 16, 3), 10, 8)
    x = tf.random.stateless_uniform((6, 16, 16, 3), (1, 2))
    expected = pass_of(model, x)
    with fused_batch_norm(model):
        close(pass_of(model, x), expected, 1e-4)


def test_in_bfloat16_it_is_as_close_to_float32_as_keras():
    x = tf.random.stateless_normal((20, 8, 8, 4), (1, 2))
    upstream = tf.random.stateless_normal(x.shape, (3, 4))

    def gradient(dtype):
        layer = BatchNormalization(dtype=dtype)
        layer.build(x.shape)
        model = keras.Sequential([layer])
        images = tf.cast(x, layer.compute_dtype)

        def found():
            with tf.GradientTape() as tape:
                tape.watch(images)
                outputs = layer(images, training=True)
            back = tape.gradient(outputs, images, tf.cast(upstream, outputs.dtype))
            return tf.cast(back, tf.float32)

        with fused_batch_norm(model):
            return found(), found_by_keras(layer, found)

    def found_by_keras(layer, found):
        ours = layer.__dict__.pop("call")
        try:
            return found()
        finally:
            layer.__dict__["call"] = ours

    exact = gradient("float32")[1]
    errors = [tf.reduce_mean(tf.abs(g - exact)) for g in gradient("mixed_bfloat16")]
    assert errors[0] < 1.2 * errors[1]


@pytest.mark.slow
def test_training_uses_it_and_leaves_the_model_alone(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    layer = model.layers[0]
    before = set(layer.__dict__)
    x, y = tf.random.stateless_uniform((4, 4, 4, 1), (1, 2)), tf.constant([0, 1, 1, 0])
    adversarial = AdversarialModel(model, attack="fgsm", epsilon=0.1)
    adversarial.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert is_fused(lambda: adversarial.train_step((x, y)))
    assert not is_fused(lambda: adversarial.test_step((x, y)))  # at inference there is less to sum
    assert set(layer.__dict__) == before
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[0]) is BatchNormalization


class OwnNormalization(BatchNormalization):
    def call(self, inputs, training=None, mask=None):
        return 2.0 * super().call(inputs, training=training, mask=mask)


@pytest.mark.parametrize(
    "layer",
    [
        BatchNormalization(axis=1),
        BatchNormalization(trainable=False),
        OwnNormalization(),
        keras.layers.GroupNormalization(2),
    ],
)
def test_other_layers_are_left_alone(layer):
    model = keras.Sequential([keras.Input((4, 4, 2)), layer])
    with fused_batch_norm(model):
        assert "call" not in layer.__dict__
        assert not is_fused(lambda x: model(x, training=True), tf.ones((2, 4, 4, 2)))


def test_features_that_are_no_images_and_masks_are_left_to_keras():
    features = keras.Sequential([keras.Input((3,)), BatchNormalization()])
    with fused_batch_norm(features):
        assert not is_fused(lambda x: features(x, training=True), tf.ones((4, 3)))
    layer = BatchNormalization()
    x = tf.random.stateless_normal((2, 3, 4, 5), (1, 2))
    mask = tf.constant([[True, True, False], [True, False, False]])
    expected = BatchNormalization()(x, training=True, mask=mask[..., None])
    layer.build(x.shape)
    with fused_batch_norm(layer):
        np.testing.assert_array_equal(layer(x, training=True, mask=mask[..., None]), expected)


def test_several_replicas_exchange_their_statistics_as_keras_does(two_replicas):
    model = resnet11((8, 8, 3), 10, 2)

    def seen():
        with fused_batch_norm(model):
            return any("call" in layer.__dict__ for layer in model.layers)

    found = []
    with two_replicas.scope():
        two_replicas.run(lambda: found.append(seen()))
    assert found
    assert not any(found)
    assert seen()
