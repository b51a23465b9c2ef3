"""Jobs on a local Ray cluster of two nodes, one of which is killed. Skipped without ray."""

import signal
import subprocess
import sys
import threading

import pytest

ray = pytest.importorskip("ray")

from ray.cluster_utils import Cluster  # noqa: E402

from pnil_tf.jobs.on_ray import run_on_ray  # noqa: E402
from pnil_tf.jobs.watch import Watch  # noqa: E402
from pnil_tf.study.budgets import BUDGETS  # noqa: E402
from pnil_tf.study.job_folder import JobFolder  # noqa: E402
from pnil_tf.study.studies import jobs_of  # noqa: E402


@pytest.fixture
def cluster():
    """A head that runs no job, and two nodes that run one each."""
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [found.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=found.address, log_to_driver=False)
    yield found, nodes
    ray.shutdown()
    found.shutdown()


def prepared(output):
    """Two short trainings without an evaluation, and one that must fail."""
    folders = []
    for job in jobs_of("table1", BUDGETS["smoke"])[:3]:
        folders.append(JobFolder(output / "cells" / job.cell.name))
        folders[-1].prepare(job, None)
        folders[-1].update(evaluations=[])
    (folders[2].path / "run").mkdir()
    (folders[2].path / "run" / "thesis.txt").write_text("in the way")
    return folders


def at_work(folder):
    return folder.log.exists() and "Working on" in folder.log.read_text()


@pytest.mark.faults
def test_a_job_goes_on_at_another_node_when_its_own_is_killed(cluster, tmp_path):
    cluster, nodes = cluster
    folders = prepared(tmp_path)
    order, handed, ended = [], threading.Event(), []

    def started(folder):
        order.append(folder)
        if len(order) == 2:
            handed.set()

    def kill_a_node():
        handed.wait(60)
        while not all(at_work(folder) for folder in folders[:2]):
            if done.wait(0.1):
                return
        cluster.remove_node(nodes[0], allow_graceful=False)

    done = threading.Event()
    killer = threading.Thread(target=kill_a_node)
    killer.start()
    try:
        run_on_ray(folders, 2, Watch(started, ended.append))
    finally:
        done.set()
        killer.join()
    assert len([node for node in ray.nodes() if node["Alive"]]) == 2  # the head and one more
    assert order == folders
    assert set(ended) == set(folders)
    assert [folder.finished for folder in folders] == [True, True, False]
    begun = sorted(folder.log.read_text().count("Working on") for folder in folders)
    assert begun == [1, 1, 2]
    assert "holds no run" in folders[2].read()["error"]


WAITING = """
import sys
from pathlib import Path
from pnil_tf.jobs.on_ray import run_on_ray
from pnil_tf.jobs.watch import Watch
from pnil_tf.runs.shard_job import ShardJob
from pnil_tf.signals import answer_signals

answer_signals()
job = ShardJob(Path(sys.argv[1]) / "0")
job.prepare({"gpu": None, "settings": {}, "images": "/dev/stdin"})  # which never ends
run_on_ray([job], 1, Watch(meanwhile=lambda: print("at work", flush=True)))
"""


@pytest.mark.faults
def test_a_signal_keeps_its_exit_status(tmp_path):
    command = [sys.executable, "-c", WAITING, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout.readline() == b"at work\n"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 143
