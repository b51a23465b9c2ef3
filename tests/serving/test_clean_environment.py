"""An environment that holds TensorFlow and nothing of ours serves the model as well as we do."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import keras
import numpy as np
import pytest
from served_models import noise_layer, sequential

from pnil_tf.serving.saved_model import export_saved_model


@pytest.fixture
def clean_python(tmp_path):
    """The interpreter of a new environment with TensorFlow, in our version, alone."""
    environment = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    wanted = f"tensorflow=={metadata.version('tensorflow')}"
    install = [python, "-m", "pip", "install", "--quiet", wanted]
    result = subprocess.run(install, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip(f"{wanted} cannot be installed here: {result.stderr.strip()[-200:]}")
    return python


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_accuracy_in_a_clean_environment(clean_python, blobs, tmp_path):
    x, y = blobs
    model = sequential(noise_layer(0.1))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.02), loss, metrics=["accuracy"])
    model.fit(x, y, epochs=10, verbose=0)
    own = model.evaluate(x, y, verbose=0)[1]
    # The classes lie so far apart that no draw of this noise costs an image.
    assert own == 1.0
    path = export_saved_model(model, tmp_path / "1")
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    client = Path(__file__).with_name("serve_check.py")
    arguments = [path, tmp_path / "x.npy", tmp_path / "y.npy"]
    result = subprocess.run(
        [clean_python, "-I", client, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["single"]["accuracy"] == own
    assert report["monte_carlo_16"]["accuracy"] == own
