"""A network's twin in PyTorch is the same network. Needs the extra `peers`."""

import keras
import numpy as np
import pytest

from pnil_tf import rng
from pnil_tf.keras_internals import all_layers
from pnil_tf.layers import PNILLayer
from pnil_tf.models import build_model

torch = pytest.importorskip("torch", reason="pip install 'pnil_tf[peers]'")

from pnil_tf.benchmark.peers.torch_twin import TorchTwin, images  # noqa: E402

SHAPE = (9, 12, 2)


def network(*first, shape=SHAPE, padding="same", classes=3):
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(shape),
            *first,
            layers.Conv2D(8, (4, 3), strides=(1, 2), padding=padding, activation="relu"),
            layers.Conv2D(5, 3, padding=padding),
            layers.Flatten(),
            layers.Dense(16, activation="relu"),
            layers.Dense(classes),
        ]
    )


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_both_give_the_same_logits(padding):
    x = np.random.default_rng(0).uniform(size=(6, *SHAPE)).astype(np.float32)
    twin = TorchTwin(network(PNILLayer(initial_sigma=0.3), padding=padding))
    assert twin.differs_by(x) < 1e-5
    with torch.no_grad():
        twin.layers[-1].bias[0] += 1
    assert twin.differs_by(x) == pytest.approx(1, abs=1e-5)


def test_the_noise_has_the_same_size():
    layer = PNILLayer(kernel_initializer="random_normal", initial_sigma=0.3)
    twin = TorchTwin(network(layer))
    x = np.random.default_rng(0).uniform(size=(1, *SHAPE)).astype(np.float32)
    torch.manual_seed(0)
    drawn = torch.cat([twin.layers[0](images(x)) - images(x) for _ in range(4000)])
    found = drawn.std(dim=0).movedim(0, -1).numpy()
    np.testing.assert_allclose(found, layer.sigma(x)[0], rtol=0.06)


@pytest.mark.parametrize(
    ("layers", "match"),
    [
        ([keras.layers.AveragePooling2D(2), keras.layers.Flatten()], "AveragePooling2D"),
        ([keras.layers.Dense(4, name="mixing"), keras.layers.Flatten()], "'mixing', which takes"),
        ([keras.layers.BatchNormalization(1, name="rows"), keras.layers.Flatten()], "'rows'"),
        (
            [
                keras.layers.GlobalAveragePooling2D(keepdims=True, name="kept"),
                keras.layers.Conv2D(3, 1),
                keras.layers.Flatten(),
            ],
            "'kept'",
        ),
    ],
)
def test_a_layer_without_a_twin_is_named(layers, match):
    with pytest.raises(ValueError, match=match):
        TorchTwin(keras.Sequential([keras.Input(SHAPE), *layers, keras.layers.Dense(3)]))


def test_batch_normalization_behind_a_dense_layer_has_the_same_logits_in_both_modes():
    x = np.random.default_rng(0).uniform(size=(8, *SHAPE)).astype(np.float32)
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(6, "relu"), keras.layers.BatchNormalization(epsilon=0.1)]
    ends = [keras.layers.Flatten(), *layers, keras.layers.Dense(3)]
    both = keras.Sequential([keras.Input(SHAPE), *ends])
    layers[1].moving_mean.assign(layers[1].moving_mean + 0.1)
    twin = TorchTwin(both)
    assert twin.differs_by(x) < 1e-5
    with torch.no_grad():
        found = twin.train()(images(x)).numpy()
    np.testing.assert_allclose(found, both(x, training=True), atol=1e-4)


@pytest.mark.parametrize("name", ["resnet11", "keras_applications:MobileNetV2"])
def test_a_whole_network_has_the_same_logits_in_training_and_inference(name):
    x = np.random.default_rng(0).uniform(size=(8, 32, 32, 3)).astype(np.float32)
    keras.utils.set_random_seed(0)
    width = {"width": 4} if name == "resnet11" else {}
    network = build_model(name, (32, 32, 3), 10, pnil=PNILLayer(), **width)
    for layer in all_layers(network):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(layer.moving_mean + 0.1)
            layer.gamma.assign(layer.gamma * 1.5)
    twin = TorchTwin(network)
    assert twin.differs_by(x) < (1e-5 if width else 1e-4)
    with rng.noise_off():
        expected = keras.ops.convert_to_numpy(network(x, training=True))
    for noise in twin.noises:
        noise.on = False
    with torch.no_grad():
        found = twin.train()(images(x)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3)
