"""A training that would fill the memory is refused before it begins."""

import types

import numpy as np
import pytest

from pnil_tf.data import DataSettings, memory
from pnil_tf.data.image_files import ImageFiles
from pnil_tf.data.image_set import ImageSet
from pnil_tf.errors import UserError
from pnil_tf.runs import training_job
from pnil_tf.runs.settings import TrainSettings
from pnil_tf.training import settings as training
from pnil_tf.training.precision import Precision


def check(shape, batch_size, model="small_cnn", precision="float32", processes=1, images=None):
    settings = TrainSettings(
        data=DataSettings("mnist"),
        model=training.ModelSettings(model=model),
        optimization=training.OptimizationSettings(batch_size=batch_size),
    )
    data = types.SimpleNamespace(
        input_shape=shape, num_classes=2, source="folder" if images else "tfds", train=images
    )
    training_job._check_model(settings, data, Precision(precision, "it was asked for"), processes)


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


@pytest.mark.parametrize(
    ("smaller", "on_gpu"),
    [({"processes": 2}, False), ({"precision": "mixed_bfloat16"}, False), ({}, True)],
)
def test_what_a_process_keeps_of_its_own_part_of_a_batch_counts(smaller, on_gpu, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 2 * 2**30)
    monkeypatch.setattr(training_job, "on_gpu", lambda: False)
    name = "keras_applications:MobileNetV2"
    with pytest.raises(UserError, match="batches of 1000"):
        check((32, 32, 3), 1000, name)
    monkeypatch.setattr(training_job, "on_gpu", lambda: on_gpu)
    check((32, 32, 3), 1000, name, **smaller)


def test_who_holds_a_folder_in_memory_is_told_that_its_files_can_be_read_instead(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**20)
    held = ImageSet(np.zeros((2, 8, 8, 3), np.uint8), np.zeros(2, np.int32))
    with pytest.raises(UserError, match=r"batch_size, or read .* data_in_memory=False\."):
        check((32, 32, 3), 300, images=held)
    files = ImageFiles(None, np.arange(2))
    for images in (files, None):
        with pytest.raises(UserError, match=r"smaller batches with batch_size\.$"):
            check((32, 32, 3), 300, images=images)
