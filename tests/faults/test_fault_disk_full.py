"""A full disk: one clear error, exit status 1, and what was whole before is whole still.

The disks are those of a sandbox; a training reaches its own from outside of it.
"""

import shutil
import time

import pytest
from command import assert_same, run, start
from tiny import EVALUATE, assert_one_error, digests, steps

pytestmark = pytest.mark.faults

FULL = "No space left on device"


def test_a_checkpoint_on_a_full_disk(sandbox, trained, train_flags, tmp_path):
    disk = tmp_path / "disk"
    sandbox.disk(disk, 700)  # room for two checkpoints and a part of the third
    inside = sandbox.seen(disk / "full")
    flags = [*train_flags, f"--runs_dir={inside.parent}", "--name=full", "--checkpoint_steps=10"]
    status, _, err = run("train.py", *flags)
    assert status == 1, err
    assert_one_error(err)
    assert FULL in err
    assert "that of step 20 is whole" in err
    assert steps(inside) == [10, 20]
    assert not list(inside.rglob("*.tmp*"))

    sandbox.resize(disk, 20000)
    status, _, err = run("train.py", *flags, "--resume")
    assert status == 0, err
    assert "Going on after step 20" in err
    assert_same(trained, inside)


@pytest.mark.slow
def test_a_report_on_a_full_disk(sandbox, trained, evaluated, tmp_path):
    disk = tmp_path / "disk"
    sandbox.disk(disk, 3000)
    inside = sandbox.seen(disk / "out")
    shutil.copytree(evaluated, inside)
    before = digests(evaluated)
    arguments = ("evaluate.py", f"--model={trained}", f"--output={disk / 'out'}", *EVALUATE)
    process = start(*arguments, "--overwrite", "--seed=1", prefix=sandbox.prefix)
    while process.poll() is None and not (inside / "state" / "worst-case-00009.npz").exists():
        time.sleep(0.01)
    sandbox.fill(disk)  # all is attacked and judged; now the results are written
    _, err = process.communicate(timeout=240)
    assert process.returncode == 1, err
    assert_one_error(err)
    assert FULL in err
    after = digests(inside)
    assert {name: after[name] for name in before} == before


def test_an_export_on_a_full_disk(sandbox, trained, tmp_path):
    disk = tmp_path / "disk"
    sandbox.disk(disk, 3000)
    served = sandbox.seen(disk / "1")
    served.mkdir()
    (served / "saved_model.pb").write_bytes(b"an earlier export")
    (served / "SHA256SUMS").write_text("0  saved_model.pb\n")
    before = digests(served)
    sandbox.fill(disk)
    arguments = (f"--model={trained}", f"--output={disk / '1'}", "--overwrite")
    status, _, err = run("export.py", *arguments, prefix=sandbox.prefix)
    assert status == 1, err
    assert_one_error(err)
    assert FULL in err
    assert digests(served) == before
    assert sorted(path.name for path in served.parent.iterdir()) == ["1", "filler"]
