"""Two processes train together, and come to the weights of one."""

import json

import pytest
from command import SHORT, assert_nearly_same, run
from workers import slurm_environments, tf_config_environments, train_together

FLAGS = [
    *SHORT,
    "--nopnil",
    "--attack=fgsm",
    "--norm=l2",
    "--epsilon=1",
    "--epochs=1",
    "--schedule=constant",
    "--max_lr=0.001",
]


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    status, _, err = run("train.py", *FLAGS, f"--runs_dir={runs}", "--name=one")
    assert status == 0, err
    return runs / "one"


@pytest.mark.parametrize(
    "environments",
    [tf_config_environments, pytest.param(slurm_environments, marks=pytest.mark.slow)],
)
def test_two_workers_match_one_device(one_device, environments):
    name = environments.__name__
    flags = [*FLAGS, f"--runs_dir={one_device.parent}", f"--name={name}"]
    train_together(environments(), *flags)
    directory = one_device.parent / name
    record = json.loads((directory / "run.json").read_text())
    assert record["device"]["replicas"] == 2
    assert (
        record["device"]["strategy"].startswith("CollectiveAllReduce")
        or "MultiWorker" in (record["device"]["strategy"])
    )
    assert_nearly_same(one_device, directory)
