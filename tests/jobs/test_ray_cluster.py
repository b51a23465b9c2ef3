"""What is said of a Ray cluster that cannot be used, before any work. Ray is not needed here."""

import contextlib
import signal
import socket
import sys
import types

import pytest

from pnil_tf.errors import UserError
from pnil_tf.jobs.engine import require_engine
from pnil_tf.jobs.on_ray import _connected, _in_parts
from pnil_tf.study.settings import StudySettings


@pytest.fixture
def ray(monkeypatch):
    """Stands for Ray, and notes what it is asked for."""
    asked = []

    def init(**arguments):
        asked.append("init")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as Ray puts a handler of its own there
        if found.error is not None:
            raise found.error

    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}},
        {"Alive": False, "Resources": {"CPU": 8.0, "GPU": 8.0}},
        {"Alive": True, "Resources": {"CPU": 8.0}},
    ]
    found = types.SimpleNamespace(
        asked=asked,
        error=None,
        init=init,
        is_initialized=lambda: False,
        nodes=lambda: nodes,
        shutdown=lambda: asked.append("shutdown"),
    )
    monkeypatch.setitem(sys.modules, "ray", found)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return found


@contextlib.contextmanager
def closed_port():
    """A port of this machine that nobody listens to."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_a_cluster_that_does_not_answer_is_not_waited_for(form, ray, monkeypatch):
    with closed_port() as port:
        monkeypatch.setenv("RAY_ADDRESS", form.format(port))
        with pytest.raises(UserError, match=r"No Ray cluster.*refused.*RAY_ADDRESS=.*HOST:PORT"):
            require_engine("ray")
    assert ray.asked == []


@pytest.mark.parametrize("address", ["nonsense", "a:", ":6379", "a:99999", "a:-1", "a:٣", "a:1e3"])
def test_what_is_no_address(address, ray, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match="its address is none"):
        require_engine("ray")
    assert ray.asked == []


def test_what_ray_says_of_a_cluster_becomes_one_line(ray, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    ray.error = ConnectionError("Could not find any running Ray instance.\nSee the manual.")
    with pytest.raises(UserError, match="Could not find any running Ray instance") as said:
        require_engine("ray")
    assert len(str(said.value).splitlines()) == 1


def test_nothing_is_started_to_see_whether_this_machine_will_do(ray):
    require_engine("ray")
    require_engine("local", 3)
    assert ray.asked == []


def test_gpus_that_no_node_has_are_not_waited_for(ray):
    require_engine("ray", 2)
    with pytest.raises(UserError, match=r"more than 2 GPUs\. Asked for by each job: 3"):
        require_engine("ray", 3)
    assert ray.asked == ["init", "shutdown"] * 2


@pytest.mark.parametrize(
    "gpus",
    [1.5, 0.00001, -1, float("nan"), float("inf"), pytest.param(10**10_000, id="of many digits")],
)
def test_numbers_of_gpus_that_ray_does_not_know(gpus):
    with pytest.raises(UserError, match=r"gpus_per_job must be 0 or a part of 1.{0,120}$"):
        StudySettings(engine="ray", gpus_per_job=gpus)


@pytest.mark.parametrize(("gpus", "taken"), [(0, 0), (0.5, 0.5), (1 / 3, 0.3333), (1, 1), (3, 3)])
def test_a_part_of_a_gpu_is_one_that_ray_can_count(gpus, taken):
    assert StudySettings(engine="ray", gpus_per_job=gpus).gpus_per_job == gpus
    assert _in_parts(gpus) == taken


def test_a_signal_is_answered_as_before(ray):
    handler = signal.getsignal(signal.SIGTERM)
    with _connected(ray):
        assert signal.getsignal(signal.SIGTERM) is handler
    assert ray.asked == ["init", "shutdown"]
