"""A network's twin in PyTorch is the same network, and the official AutoAttack finds no more in it.

Needs PyTorch, and for the slow test the official code, see `beside_autoattack.py`.
"""

import keras
import numpy as np
import pytest

from pnil_tf.evaluation.runner import evaluate
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.layers import PNILLayer

torch = pytest.importorskip("torch")

from torch_twin import TorchTwin, images  # noqa: E402

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
        twin[-1].bias[0] += 1
    assert twin.differs_by(x) == pytest.approx(1, abs=1e-5)


def test_the_noise_has_the_same_size():
    layer = PNILLayer(kernel_initializer="random_normal", initial_sigma=0.3)
    twin = TorchTwin(network(layer))
    x = np.random.default_rng(0).uniform(size=(1, *SHAPE)).astype(np.float32)
    torch.manual_seed(0)
    drawn = torch.cat([twin[0](images(x)) - images(x) for _ in range(4000)])
    found = drawn.std(dim=0).movedim(0, -1).numpy()
    np.testing.assert_allclose(found, layer.sigma(x)[0], rtol=0.06)


def test_a_layer_without_a_twin_is_named():
    with pytest.raises(ValueError, match="AveragePooling2D"):
        TorchTwin(network(keras.layers.AveragePooling2D(2)))


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.19), ("l2", 1.1)])
def test_auto_leaves_no_more_than_the_official_ensemble(norm, epsilon, blobs, tmp_path):
    pytest.importorskip("autoattack")
    from beside_autoattack import beside, standard

    x, y = blobs
    model = network(shape=(8, 8, 1), classes=4)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, epochs=10, verbose=0)
    settings = EvaluationSettings(epsilon, norm=norm, images=100, checks=False)
    evaluate(model, x[:100], y[:100], settings, tmp_path, verbose=0)
    stages = dict(
        standard(TorchTwin(model), images(x[:100]), torch.tensor(y[:100]).long(), norm, epsilon)
    )
    assert list(stages) == ["clean", "apgd-ce", "apgd-t", "fab-t", "square"]
    left = stages["square"].astype(float)
    found = beside(tmp_path, left)
    assert 0.1 < left.mean() < 0.9  # else there is nothing to compare
    assert found["worst_case"] <= found["official"] + 0.01, found
