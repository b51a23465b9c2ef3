"""Two processes train together, and come to the weights of one."""

import json

import numpy as np
import pytest
from command import SHORT, load_classifier, run, start
from workers import slurm_environments, tf_config_environments

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


@pytest.mark.parametrize("environments", [tf_config_environments, slurm_environments])
def test_two_workers_match_one_device(one_device, environments):
    name = environments.__name__
    flags = [*FLAGS, f"--runs_dir={one_device.parent}", f"--name={name}"]
    workers = [start("train.py", *flags, env=env) for env in environments()]
    try:
        outputs = [worker.communicate(timeout=300) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    directory = one_device.parent / name
    record = json.loads((directory / "run.json").read_text())
    assert record["device"]["replicas"] == 2
    assert (
        record["device"]["strategy"].startswith("CollectiveAllReduce")
        or "MultiWorker" in (record["device"]["strategy"])
    )
    models = [load_classifier(run) for run in (one_device, directory)]
    for a, b in zip(*(model.weights for model in models), strict=True):
        difference = np.abs(a.numpy() - b.numpy())
        # Adam divides by the gradient's size, which magnifies the rounding of the smallest.
        assert difference.max() < 1e-3, a.path
        assert difference.mean() < 5e-5, a.path
