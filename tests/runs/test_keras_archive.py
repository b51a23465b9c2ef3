"""Small files that ask for much are refused before Keras builds anything."""

import json
import zipfile

import keras
import pytest

from pnil_tf.errors import UserError
from pnil_tf.layers import PNILLayer
from pnil_tf.runs.keras_archive import MOST_PARTS, check_archive
from pnil_tf.runs.load import load_model


@pytest.fixture
def changed(tmp_path):
    """Returns a function that saves a classifier with another description than its own."""
    layers = [keras.Input((4, 4, 1)), PNILLayer(), keras.layers.Dropout(0.5)]
    layers += [keras.layers.Flatten(), keras.layers.Dense(3)]
    keras.Sequential(layers).save(tmp_path / "whole.keras")

    def change(function):
        target = tmp_path / "changed.keras"
        with (
            zipfile.ZipFile(tmp_path / "whole.keras") as found,
            zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for member in found.namelist():
                content = found.read(member)
                if member == "config.json":
                    config = json.loads(content)
                    function(config["config"]["layers"])
                    content = json.dumps(config)
                archive.writestr(member, content)
        return target

    return change


def test_a_whole_file_passes_and_is_loaded(changed):
    check_archive(changed(lambda layers: None))
    assert load_model(changed(lambda layers: None)).model.count_params() == 16 * 2 + 16 * 3 + 3


def test_a_layer_of_a_billion_units(changed):
    file = changed(lambda layers: layers[-1]["config"].update(units=2**36))
    with pytest.raises(UserError, match=r"too large for this machine's memory: .* parameters"):
        load_model(file)


def test_many_thousand_layers(changed):
    def repeat(layers):
        layers[2:3] = layers[2:3] * 20_000

    file = changed(repeat)
    assert file.stat().st_size < 300_000
    with pytest.raises(UserError, match=f"40,.* parts of layers, more than the {MOST_PARTS:,}"):
        load_model(file)


def test_a_description_that_is_none(changed, tmp_path):
    with zipfile.ZipFile(tmp_path / "none.keras", "w") as archive:
        archive.writestr("config.json", "[" * 100_000)
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(tmp_path / "none.keras")
