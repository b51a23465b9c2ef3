"""What the README shows runs as it stands there."""

import re
from pathlib import Path

import keras
import pytest
import tensorflow as tf

import pnil_tf

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.fixture
def names(blobs):
    classifier = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(4)]
    )
    x, y = blobs
    return {
        "keras": keras,
        "pnil_tf": pnil_tf,
        "tf": tf,
        "classifier": classifier,
        "x": x,
        "y": y,
    }


def test_three_lines_train_a_model_of_ones_own(names):
    block = next(block for block in BLOCKS if "AdversarialModel" in block)
    assert len(block.strip().splitlines()) == 3
    exec(block, names)
    history = names["model"].history.history
    assert history["loss"][-1] < history["loss"][0]
    assert "val_adversarial_accuracy" in history
    assert any(isinstance(layer, pnil_tf.PNILLayer) for layer in names["model"].classifier.layers)


@pytest.mark.parametrize(
    "mark", ["noise_scope(7):\n    first", "MobileNet", "export_saved_model(c"]
)
def test_examples_run(names, mark, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = [block for block in BLOCKS if mark in block]
    exec(block, names)
    if "first" in names:
        assert (names["first"] == names["second"]).numpy().all()
    if "answer" in names:
        assert names["answer"]["agreement"].shape == (8,)
        assert (tmp_path / "served" / "1" / "model_card.md").exists()


def test_every_public_name_can_be_imported_and_is_documented():
    table = (ROOT / "README.md").read_text().partition("## In Python")[2]
    for name in pnil_tf.__all__:
        assert getattr(pnil_tf, name) is not None
        assert f"`{name}" in table or name == "__version__"
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = pnil_tf.no_such_name


def test_the_flagfiles_are_valid_and_say_their_own_command():
    from absl import flags as absl_flags

    from pnil_tf import flags

    files = sorted((ROOT / "configs").glob("*.cfg"))
    assert len(files) == 24
    for file in files:
        values = absl_flags.FlagValues()
        flags.define("data", "model", "attack", "optimization", "device", "run", flag_values=values)
        values(["train.py", f"--flagfile={file}"])
        settings = flags.train_settings(values)
        assert settings.run.name == file.stem
        assert file.read_text().startswith(
            f"# python bin/train.py --flagfile=configs/{file.name}\n"
        )
