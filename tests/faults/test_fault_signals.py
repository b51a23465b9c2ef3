"""SIGTERM and Ctrl-C: what can be kept is kept, and the command leaves within seconds."""

import re
import signal
import time
from pathlib import Path

import pytest
from command import assert_same, run, start
from tiny import EVALUATE, numbers, steps

pytestmark = pytest.mark.faults

SECONDS = 15.0  # on a busy machine; one step and one checkpoint take a fraction of one


def interrupted(process, ready, number: int) -> tuple[int, str]:
    """Sends a signal as soon as `ready`; returns status and standard error."""
    end = time.monotonic() + 240
    while not ready():
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(number)
    sent = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - sent < SECONDS
    assert "Traceback" not in err, err
    return process.returncode, err


@pytest.mark.slow
def test_ctrl_c_saves_the_last_step_of_a_training(trained, train_flags, tmp_path):
    directory = tmp_path / "stopped"
    flags = [*train_flags, f"--runs_dir={tmp_path}", "--name=stopped", "--checkpoint_steps=5"]
    process = start("train.py", *flags)
    status, err = interrupted(process, lambda: steps(directory), signal.SIGINT)
    assert status == 130
    reached = steps(directory)[-1]
    assert f"The checkpoint of step {reached} is in" in err
    assert "the same command with --resume goes on" in err
    status, _, err = run("train.py", *flags, "--resume")
    assert status == 0, err
    assert f"Going on after step {reached}." in err
    assert_same(trained, directory)


@pytest.mark.parametrize(
    ("number", "expected"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
)
def test_an_evaluation_leaves_and_goes_on(trained, evaluated, tmp_path, number, expected):
    state = tmp_path / "out" / "state"
    arguments = (f"--model={trained}", f"--output={tmp_path / 'out'}", *EVALUATE, "--resume")
    process = start("evaluate.py", *arguments)
    status, err = interrupted(process, lambda: len(list(state.glob("*.npz"))) > 3, number)
    assert status == expected
    assert "the same command with --resume goes on" in err
    assert not list(state.glob(".*"))
    if number == signal.SIGTERM:
        return  # once is enough to see that it goes on
    status, _, err = run("evaluate.py", *arguments)
    assert status == 0, err
    assert numbers(tmp_path / "out" / "results.json") == numbers(evaluated / "results.json")


def test_before_there_is_anything_to_keep(train_flags, tmp_path):
    process = start("train.py", *train_flags, f"--runs_dir={tmp_path}", fresh=True)
    status, _ = interrupted(process, lambda: answers(process, signal.SIGTERM), signal.SIGTERM)
    assert status == 143


def answers(process, number: int) -> bool:
    """Whether a process has begun to answer a signal; before that Linux ends it."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (caught,) = re.findall(r"^SigCgt:\s*(\w+)", status, re.MULTILINE)
    return bool(int(caught, 16) >> (number - 1) & 1)
