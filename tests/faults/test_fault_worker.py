"""One of two workers is killed: the other says so within a minute, and both can go on."""

import signal
import time

import pytest
from command import start
from tiny import assert_one_error, steps
from workers import tf_config_environments

pytestmark = pytest.mark.faults

CHIEF = pytest.param(0, id="chief", marks=pytest.mark.slow)


def wait_until(reached, workers) -> None:
    end = time.monotonic() + 240
    while not reached():
        assert time.monotonic() < end, "it did not come to that"
        assert [worker.poll() for worker in workers] == [None, None], workers[0].communicate()
        time.sleep(0.02)


@pytest.fixture
def begin():
    """Starts both workers, and leaves none behind."""
    begun = []

    def both(*flags):
        workers = [start("train.py", *flags, env=env) for env in tf_config_environments()]
        begun.extend(workers)
        return workers

    yield both
    for worker in begun:
        worker.kill()
        worker.communicate()


@pytest.mark.parametrize("victim", [CHIEF, pytest.param(1, id="other")])
def test_a_killed_worker_ends_the_other(begin, train_flags, tmp_path, victim):
    directory = tmp_path / "two"
    place = (f"--runs_dir={tmp_path}", "--name=two")
    workers = begin(*train_flags, *place, "--checkpoint_steps=5", "--epochs=30")
    wait_until(lambda: len(steps(directory)) > 1, workers)
    workers[victim].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    _, err = workers[1 - victim].communicate(timeout=120)
    assert time.monotonic() - killed < 60
    assert workers[1 - victim].returncode == 1, err
    assert_one_error(err)
    assert "A worker of this training is gone" in err
    if victim == 1:
        return  # once is enough to see that both go on

    reached = steps(directory)[-1]
    workers = begin(*place, "--resume")
    wait_until(lambda: steps(directory)[-1] > reached, workers)
    for worker in workers:
        worker.kill()
    assert f"Going on after step {reached}." in workers[0].communicate()[1]
