"""The official AutoAttack finds no more than ours.

Needs PyTorch and the official code, see `beside_autoattack.py`.
"""

import keras
import pytest

from pnil_tf.evaluation.runner import evaluate
from pnil_tf.evaluation.settings import EvaluationSettings

torch = pytest.importorskip("torch")

from pnil_tf.benchmark.peers.torch_twin import TorchTwin, images  # noqa: E402


def network(shape, classes):
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(8, (4, 3), strides=(1, 2), padding="same", activation="relu"),
            layers.Conv2D(5, 3, padding="same"),
            layers.Flatten(),
            layers.Dense(16, activation="relu"),
            layers.Dense(classes),
        ]
    )


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.19), ("l2", 1.1)])
def test_auto_leaves_no_more_than_the_official_ensemble(norm, epsilon, blobs, tmp_path):
    pytest.importorskip("autoattack")
    from beside_autoattack import beside, standard

    x, y = blobs
    model = network((8, 8, 1), 4)
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
