"""Weight decay shrinks kernels, and nothing else."""

import keras
import numpy as np
import pytest

from pnil_tf.data import DataSettings
from pnil_tf.errors import UserError
from pnil_tf.runs.model import compiled
from pnil_tf.runs.settings import RunSettings, TrainSettings
from pnil_tf.runs.training_job import prepare
from pnil_tf.training.lr_range import _with_rate
from pnil_tf.training.settings import (
    AttackTrainingSettings,
    ModelSettings,
    OptimizationSettings,
)

RATE, DECAY = 0.1, 0.5


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    x, y = np.zeros((45, 8, 8, 1), np.uint8), np.arange(45) % 2
    np.savez(folder / "images.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    settings = TrainSettings(
        data=DataSettings(f"npz:{folder / 'images.npz'}"),
        model=ModelSettings(model="resnet11", width=2, pnil=True),
        attack=AttackTrainingSettings(attack="none", epsilon=0.1),
        optimization=OptimizationSettings(epochs=1, batch_size=10, weight_decay=DECAY),
        run=RunSettings(runs_dir=str(folder)),
    )
    return compiled(prepare(settings), RATE)[0]


def after_a_step_without_gradients(optimizer, weights):
    """The share that is left of each weight."""
    for weight in weights:
        weight.assign(np.ones(weight.shape))
    optimizer.apply([np.zeros(weight.shape, np.float32) for weight in weights], weights)
    return [np.unique(weight.numpy()).tolist() for weight in weights]


def test_kernels_decay_by_their_share_and_nothing_else_does(model):
    weights = model.classifier.trainable_weights
    left = after_a_step_without_gradients(model.optimizer, weights)
    kernels = ["kernel" in w.path and "pnil" not in w.path for w in weights]
    assert sum(kernels) > 10
    assert any("pnil" in w.path and len(w.shape) > 1 for w in weights)
    for kernel, share in zip(kernels, left, strict=True):
        assert share == pytest.approx([1.0 - RATE * DECAY if kernel else 1.0])


def test_the_range_test_spares_what_the_training_spares(model):
    weights = model.classifier.trainable_weights
    left = after_a_step_without_gradients(model.optimizer, weights)
    assert after_a_step_without_gradients(_with_rate(model.optimizer, RATE), weights) == left


def test_names_that_are_spared_stay_so_in_the_range_test():
    weights = [keras.Variable(np.ones(2), name="spared"), keras.Variable(np.ones(2), name="other")]
    optimizer = keras.optimizers.AdamW(RATE, weight_decay=DECAY)
    optimizer.exclude_from_weight_decay(var_names=["spared"])
    left = after_a_step_without_gradients(_with_rate(optimizer, RATE), weights)
    assert left == [[1.0], pytest.approx([0.95])]


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_what_is_no_weight_decay_is_refused(decay):
    with pytest.raises(UserError, match=r"weight_decay must be 0 \(off\) or below 1"):
        OptimizationSettings(weight_decay=decay)
