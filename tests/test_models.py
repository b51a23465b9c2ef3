"""The classifiers: their sizes, shapes, and names."""

import keras
import numpy as np
import pytest

from pnil_tf.errors import UserError
from pnil_tf.layers import PNILLayer
from pnil_tf.models import MODELS, build_model, hidden_weights, resnet11, small_cnn


def conv(size, channels_in, channels_out, bias):
    return size * size * channels_in * channels_out + (channels_out if bias else 0)


def test_small_cnn_has_two_convolutions_and_one_hidden_layer():
    expected = conv(4, 1, 16, True) + conv(4, 16, 32, True)
    expected += (7 * 7 * 32 + 1) * 100 + (100 + 1) * 10
    assert small_cnn((28, 28, 1), 10).count_params() == expected == 166_406


def test_pnil_adds_a_weight_and_a_bias_for_each_pixel():
    plain = small_cnn((28, 28, 1), 10).count_params()
    assert small_cnn((28, 28, 1), 10, pnil=PNILLayer()).count_params() == plain + 2 * 28 * 28


def test_resnet11_has_eleven_weight_layers_beside_its_shortcuts():
    width = 64
    model = resnet11((32, 32, 3), 10)
    expected = conv(3, 3, width, False)
    channels_in, norms = width, 0
    for stage in range(4):
        channels = width * 2**stage
        norms += channels_in + channels
        expected += conv(3, channels_in, channels, False) + conv(3, channels, channels, False)
        expected += conv(1, channels_in, channels, False) if stage else 0
        channels_in = channels
    norms += 2 * channels_in
    expected += conv(1, channels_in, channels_in, False) + (channels_in + 1) * 10
    assert model.count_params() == expected + 4 * norms
    weighty = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense)
    ]
    assert len(weighty) == 11 + 3


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("shape", "classes"), [((28, 28, 1), 10), ((33, 17, 3), 4)])
def test_models_map_any_image_size_to_float32_logits(name, shape, classes):
    model = build_model(name, shape, classes, width=4, pnil=PNILLayer())
    assert model.input_shape == (None, *shape)
    assert model.output_shape == (None, classes)
    assert isinstance(model.layers[0 if name == "small_cnn" else 1], PNILLayer)
    logits = model(np.zeros((2, *shape), np.float32))
    assert logits.shape == (2, classes)
    assert logits.dtype == "float32"


def test_logits_stay_float32_under_mixed_precision():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = small_cnn((28, 28, 1), 10, width=2)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert model.layers[0].compute_dtype == "bfloat16"
    assert model(np.zeros((1, 28, 28, 1), np.float32)).dtype == "float32"


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match=r"'resnet50'.*small_cnn, resnet11"):
        build_model("resnet50", (28, 28, 1), 10)


@pytest.mark.parametrize("shape", [(28, 28, 1), (9, 30, 3)])
@pytest.mark.parametrize("width", [None, 4])
def test_the_weights_that_grow_with_the_images_are_known_beforehand(shape, width):
    model = build_model("small_cnn", shape, 10, width=width)
    hidden = next(layer for layer in model.layers if getattr(layer, "units", None) == 100)
    assert hidden_weights("small_cnn", shape, width) == hidden.kernel.shape[0] * 100
    assert hidden_weights("resnet11", shape, width) == 0
