"""What the fault tests share: images, a finished run, its evaluation, and a sandbox."""

from pathlib import Path

import pytest
from command import run
from idx_files import write_set
from sandbox import Sandbox
from tiny import EVALUATE, TRAIN


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    """A folder with the IDX files of 400 training and 80 test images."""
    folder = tmp_path_factory.mktemp("idx")
    write_set(folder, n_train=400, n_test=80)
    return folder


@pytest.fixture(scope="session")
def train_flags(data_dir) -> list[str]:
    return [*TRAIN, f"--data_dir={data_dir}"]


@pytest.fixture(scope="session")
def trained(tmp_path_factory, train_flags) -> Path:
    """A run that nothing disturbed. Copy it before you harm it."""
    runs = tmp_path_factory.mktemp("runs")
    status, _, err = run("train.py", *train_flags, f"--runs_dir={runs}", "--name=whole")
    assert status == 0, err
    return runs / "whole"


@pytest.fixture(scope="session")
def evaluated(trained, tmp_path_factory) -> Path:
    """The folder of its evaluation. Copy it before you harm it."""
    output = tmp_path_factory.mktemp("evaluations") / "whole"
    status, _, err = run("evaluate.py", f"--model={trained}", f"--output={output}", *EVALUATE)
    assert status == 0, err
    return output


@pytest.fixture
def sandbox():
    try:
        made = Sandbox()
    except OSError as error:
        pytest.skip(f"needs user namespaces, which this machine does not allow: {error}")
    yield made
    made.close()
