"""The command `certify`, from the command line to its files."""

import json

import keras
import numpy as np
from command import run

from pnil_tf.layers import PNILLayer

SHAPE = (4, 4, 1)


def saved(folder, *in_front):
    """A run's folder with bright and dark images, as training leaves it."""
    layers = [PNILLayer(use_kernel=False), keras.layers.Flatten(), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input(SHAPE), *in_front, *layers])
    model.layers[-1].set_weights([np.stack([-np.ones(16), np.ones(16)], 1), np.array([8.0, -8.0])])
    folder.mkdir()
    model.save(folder / "classifier.keras")
    labels = np.arange(40) % 2
    images = np.where(labels[:, None, None, None] == 1, 170, 80) * np.ones((40, *SHAPE))
    np.savez(folder / "images.npz", x=images.astype(np.uint8), y=labels)
    settings = {"data": {"dataset": f"npz:{folder / 'images.npz'}"}, "attack": {"epsilon": 0.05}}
    (folder / "run.json").write_text(json.dumps({"settings": settings}))
    return folder


def test_a_run_is_certified_and_what_cannot_be_is_refused(tmp_path):
    folder = saved(tmp_path / "run")
    status, out, err = run("certify.py", f"--model={folder}", "--draws=200", "--images=3")
    assert status == 0, err
    assert "0.05 of the range" in out
    assert "Proved: within epsilon" in out
    assert f"The report is in {folder}/certificate/certificate.html" in err
    record = json.loads((folder / "certificate" / "certificate.json").read_text())
    assert record["settings"]["draws"] == 200
    assert record["certified"]["epsilon"] == 0.05
    assert record["certified"]["value"] == 1.0
    assert not (folder / "certificate" / "pieces").exists()

    other = saved(tmp_path / "other", keras.layers.ReLU())
    status, out, err = run("certify.py", f"--model={other}", "--draws=200")
    assert (status, out) == (2, "")
    assert "Nothing can be proved of this model" in err
    assert "ReLU" in err
    assert not (other / "certificate").exists()
