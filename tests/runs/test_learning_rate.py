"""`--max_lr=auto`: the rate that the curve suggests, or the default where it decides nothing."""

import logging
import re

import keras
import numpy as np
import pytest

from pnil_tf.data import DataSettings
from pnil_tf.errors import RunFailedError
from pnil_tf.runs.learning_rate import find_learning_rate
from pnil_tf.runs.settings import RunSettings, TrainSettings
from pnil_tf.runs.train import train
from pnil_tf.training.settings import (
    DEFAULT_MAX_LR,
    AttackTrainingSettings,
    ModelSettings,
    OptimizationSettings,
)


@pytest.fixture
def black_images(tmp_path):
    """Settings of a training on images that are all alike, so that no rate can help."""
    for split, count in (("train", 20), ("test", 10)):
        for label in "ab":
            folder = tmp_path / "images" / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                keras.utils.save_img(folder / f"{i}.png", np.zeros((8, 8, 1)), scale=False)
    return TrainSettings(
        data=DataSettings(dataset=f"folder:{tmp_path / 'images'}"),
        model=ModelSettings(width=2),
        attack=AttackTrainingSettings(attack="none", epsilon=0.1, validation_attack="none"),
        optimization=OptimizationSettings(epochs=1, batch_size=20, max_lr="auto"),
        run=RunSettings(runs_dir=str(tmp_path / "runs"), name="run", evaluation_images=0),
    )


def test_a_curve_that_decides_nothing_leaves_the_default_and_says_so(black_images, caplog, capfd):
    with caplog.at_level(logging.WARNING):
        record = train(black_images)
    assert re.search(r"LR range test: \d+ steps \(\d:\d\d\)", capfd.readouterr().err)
    assert record["max_lr"] == DEFAULT_MAX_LR
    assert "the curve decides nothing" in caplog.text
    assert f"default, {DEFAULT_MAX_LR}" in caplog.text


def test_the_command_that_only_looks_for_a_rate_fails_then(black_images):
    with pytest.raises(RunFailedError, match="never fell"):
        find_learning_rate(black_images)
