"""Model files: loaded in safe mode, or refused with one sentence; nothing is written."""

import json
import zipfile

import keras
import numpy as np
import pytest
from fuzzing import SIZES, Arena, damaged_bytes, damaged_json, fuzz

from pnil_tf.layers import PNILLayer
from pnil_tf.runs.load import load_model


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The content of a small `.keras` file."""
    file = tmp_path_factory.mktemp("whole") / "model.keras"
    layers = [keras.Input((4, 4, 1)), PNILLayer(), keras.layers.Flatten(), keras.layers.Dense(3)]
    keras.Sequential(layers).save(file)
    return file.read_bytes()


def rezipped(file, target, name, content):
    """Copies an archive with other content under one name."""
    with zipfile.ZipFile(file) as found, zipfile.ZipFile(target, "w") as archive:
        for member in found.namelist():
            archive.writestr(member, content if member == name else found.read(member))


def checked(arena):
    loaded = arena.inside / "damaged.keras"
    try:
        load_model(loaded)
    finally:
        keras.backend.clear_session(free_memory=False)
        arena.assert_untouched()
        assert [path.name for path in arena.inside.iterdir()] == [loaded.name]


@pytest.mark.parametrize("many", SIZES)
def test_damaged_files(many, tmp_path, whole):
    arena = Arena(tmp_path)

    def check(content):
        (arena.inside / "damaged.keras").write_bytes(content)
        checked(arena)

    fuzz(many, damaged_bytes(whole), check, 20, 400)


@pytest.mark.parametrize("many", SIZES)
@pytest.mark.parametrize("name", ["config.json", "metadata.json"])
def test_damaged_descriptions(many, name, tmp_path, whole):
    file = tmp_path / "whole.keras"
    file.write_bytes(whole)
    with zipfile.ZipFile(file) as archive:
        description = json.loads(archive.read(name))
    arena = Arena(tmp_path / "arena")

    def check(value):
        rezipped(file, arena.inside / "damaged.keras", name, json.dumps(value))
        checked(arena)

    fuzz(many, damaged_json(description), check, 15, 400)


@pytest.mark.parametrize("many", SIZES)
def test_damaged_weights(many, tmp_path, whole):
    file = tmp_path / "whole.keras"
    file.write_bytes(whole)
    with zipfile.ZipFile(file) as archive:
        weights = archive.read("model.weights.h5")
    arena = Arena(tmp_path / "arena")

    def check(content):
        rezipped(file, arena.inside / "damaged.keras", "model.weights.h5", content)
        checked(arena)

    fuzz(many, damaged_bytes(weights), check, 15, 400)


def test_a_whole_file_is_loaded(tmp_path, whole):
    (tmp_path / "whole.keras").write_bytes(whole)
    answer = load_model(tmp_path / "whole.keras").model(np.zeros((2, 4, 4, 1), np.float32))
    assert answer.shape == (2, 3)
