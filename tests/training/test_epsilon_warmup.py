"""The training attack grows to its full size over the first steps; nothing else does."""

import keras
import numpy as np
import pytest

from pnil_tf.data import DataSettings
from pnil_tf.errors import UserError
from pnil_tf.runs.model import compiled
from pnil_tf.runs.settings import RunSettings, TrainSettings
from pnil_tf.runs.training_job import prepare
from pnil_tf.training.model import AdversarialModel
from pnil_tf.training.settings import (
    AttackTrainingSettings,
    ModelSettings,
    OptimizationSettings,
)

EPSILON = 0.05
CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(True)


def linear(x):
    """A linear classifier of two classes."""
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [keras.Input(x.shape[1:]), keras.layers.Flatten(), keras.layers.Dense(2)]
    )


def test_step_i_of_k_takes_i_kths_of_the_radius_and_validation_all_of_it(blobs):
    """FGSM moves every pixel of a linear model by the radius, against its label."""
    x, y = 0.25 + 0.5 * blobs[0][:40], blobs[1][:40] % 2  # no pixel meets the end of the range
    classifier = linear(x)
    kernel = classifier.layers[-1].kernel.numpy()
    towards_one = np.sign(kernel[:, 1] - kernel[:, 0]).reshape(x.shape[1:])
    away = np.where(y == 0, 1.0, -1.0).reshape(-1, 1, 1, 1) * towards_one
    losses = [float(CROSS_ENTROPY(y, classifier(x + EPSILON * i / 3 * away))) for i in (1, 2, 3)]
    model = AdversarialModel(
        classifier, "fgsm", EPSILON, epsilon_warmup_steps=3, validation_attack="fgsm"
    )
    model.compile(keras.optimizers.SGD(0.0), CROSS_ENTROPY)
    history = model.fit(
        x, y, batch_size=40, epochs=5, validation_data=(x, y), validation_batch_size=40, verbose=0
    ).history
    np.testing.assert_allclose(history["loss"], [*losses, losses[2], losses[2]], rtol=1e-4)
    np.testing.assert_allclose(history["val_adversarial_loss"], [losses[2]] * 5, rtol=1e-4)
    assert losses[0] < losses[1] < losses[2]


def test_a_model_saved_within_the_warmup_goes_on_there(blobs, tmp_path):
    x, y = blobs
    model = AdversarialModel(linear(x), "pgd-2", 0.2, epsilon_warmup_steps=30)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(True))
    y = y % 2
    model.fit(x, y, batch_size=40, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.epsilon_warmup_steps == 30
    for each in (model, loaded):
        each.fit(x, y, batch_size=40, epochs=3, shuffle=False, verbose=0)
    for one, other in zip(loaded.get_weights(), model.get_weights(), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("steps", [-1, 0.3, True, float("nan"), 2**31])
def test_what_is_no_number_of_steps_is_refused(blobs, steps):
    with pytest.raises(UserError, match="whole number of steps"):
        AdversarialModel(linear(blobs[0]), "fgsm", EPSILON, epsilon_warmup_steps=steps)


@pytest.mark.parametrize("share", [-0.1, 1.0, 300.0, float("nan")])
def test_what_is_no_share_of_a_training_is_refused(share):
    with pytest.raises(UserError, match=r"epsilon_warmup is a share.* below 1"):
        AttackTrainingSettings(epsilon_warmup=share)


def test_a_run_makes_steps_of_its_share(tmp_path):
    x = np.zeros((45, 8, 8, 1), np.uint8)
    y = np.arange(45) % 2
    np.savez(tmp_path / "images.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    settings = TrainSettings(
        data=DataSettings(f"npz:{tmp_path / 'images.npz'}"),
        model=ModelSettings(width=2),
        attack=AttackTrainingSettings(epsilon=EPSILON, epsilon_warmup=0.3),
        optimization=OptimizationSettings(epochs=5, batch_size=10),
        run=RunSettings(runs_dir=str(tmp_path)),
    )
    job = prepare(settings)
    assert job.steps_per_epoch == 4
    model, _ = compiled(job, 0.001)
    assert model.epsilon_warmup_steps == 6
