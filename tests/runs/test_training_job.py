"""A training that would fill the memory is refused before it begins."""

import types

import pytest

from pnil_tf.data import DataSettings, memory
from pnil_tf.errors import UserError
from pnil_tf.runs import training_job
from pnil_tf.runs.settings import TrainSettings
from pnil_tf.training import settings as training


def check(shape, batch_size, model="small_cnn"):
    settings = TrainSettings(
        data=DataSettings("mnist"),
        model=training.ModelSettings(model=model),
        optimization=training.OptimizationSettings(batch_size=batch_size),
    )
    training_job._check_model(settings, types.SimpleNamespace(input_shape=shape, num_classes=2))


def test_what_fits_is_trained(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**30)
    check((28, 28, 1), 100)
    check((64, 64, 3), 100, "resnet11")


@pytest.mark.parametrize("batch_size", [1, 100])
def test_vast_images_are_refused(monkeypatch, batch_size):
    monkeypatch.setattr(memory, "available_bytes", lambda: 16 * 2**30)
    with pytest.raises(UserError, match=r"8192 x 8192 x 1 is too large for this .*with image_size"):
        check((8192, 8192, 1), batch_size)


def test_a_network_whose_activations_would_fill_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**30)
    name = "keras_applications:MobileNetV2"
    check((32, 32, 3), 100, name)
    with pytest.raises(UserError, match=r"batches of 1000 and .* 2,260,546 weights .*batch_size"):
        check((32, 32, 3), 1000, name)
