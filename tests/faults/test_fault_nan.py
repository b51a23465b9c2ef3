"""A loss that is no number ends the training, says where, and leaves the best classifier."""

import json
from pathlib import Path

import numpy as np
import pytest
from command import load_classifier, run
from tiny import assert_one_error

from pnil_tf.runs.load import load_model

pytestmark = pytest.mark.faults


def test_the_best_classifier_before_a_nan_is_the_run_s(tmp_path, train_flags):
    script = Path(__file__).with_name("poisoned_train.py")
    status, _, err = run(str(script), *train_flags, f"--runs_dir={tmp_path}", "--name=spoiled")
    assert status == 1
    assert_one_error(err)
    assert "The loss is nan at step 41." in err
    assert "The best classifier, of epoch 1, is" in err
    classifier = load_classifier(tmp_path / "spoiled")
    assert all(np.isfinite(weight.numpy()).all() for weight in classifier.weights)
    record = json.loads((tmp_path / "spoiled" / "run.json").read_text())
    assert record["status"] == "unfinished"
    assert record["kept"]["epoch"] == 1
    assert load_model(tmp_path / "spoiled").kind == "training run"
