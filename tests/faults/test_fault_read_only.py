"""A run's folder that nobody may write to: it can be read, and is not half changed."""

import shutil

import pytest
from command import run
from tiny import EVALUATE, assert_one_error, digests

pytestmark = pytest.mark.faults

READ_ONLY = "Read-only file system"


def test_a_training_is_refused(sandbox, trained, train_flags, tmp_path):
    directory = shutil.copytree(trained, tmp_path / "run")
    before = digests(directory)
    sandbox.read_only(tmp_path)
    flags = (f"--runs_dir={sandbox.seen(tmp_path)}", "--name=run", "--overwrite")
    status, _, err = run("train.py", *train_flags, *flags)
    assert status == 1, err
    assert_one_error(err)
    assert READ_ONLY in err
    assert digests(directory) == before


@pytest.mark.slow
def test_it_can_be_evaluated_elsewhere(sandbox, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "read_only" / "run")
    sandbox.read_only(tmp_path / "read_only")
    model = f"--model={tmp_path / 'read_only' / 'run'}"
    status, _, err = run("evaluate.py", model, *EVALUATE, prefix=sandbox.prefix)
    assert status == 1, err
    assert_one_error(err)
    assert READ_ONLY in err
    output = tmp_path / "out"
    status, _, err = run(
        "evaluate.py", model, f"--output={output}", *EVALUATE, prefix=sandbox.prefix
    )
    assert status == 0, err
    assert (output / "report.html").exists()
