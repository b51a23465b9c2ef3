"""Two processes on one folder: the second refuses, and harms nothing."""

import shutil

import pytest
from command import run
from tiny import EVALUATE, assert_one_error, digests

from pnil_tf.files import lock_folder

pytestmark = pytest.mark.faults


def test_a_run_that_is_being_trained_is_refused(trained, train_flags, tmp_path):
    directory = shutil.copytree(trained, tmp_path / "run")
    before = digests(directory)
    with lock_folder(directory):
        status, _, err = run(
            "train.py", *train_flags, f"--runs_dir={tmp_path}", "--name=run", "--overwrite"
        )
    assert status == 2, err
    assert_one_error(err)
    assert "Another process works in" in err
    assert digests(directory) == before


def test_an_evaluation_that_is_being_done_is_refused(trained, evaluated, tmp_path):
    output = shutil.copytree(evaluated, tmp_path / "out")
    before = digests(output)
    with lock_folder(output):
        status, _, err = run(
            "evaluate.py", f"--model={trained}", f"--output={output}", *EVALUATE, "--overwrite"
        )
    assert status == 2, err
    assert_one_error(err)
    assert "Another process works in" in err
    assert digests(output) == before
