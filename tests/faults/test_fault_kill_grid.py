"""kill -9 at 20 moments of a study: the same command goes on, and it ends as if undisturbed."""

import contextlib
import fcntl
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
from command import assert_same, run, start

pytestmark = [pytest.mark.faults, pytest.mark.slow]

SEED = 20261122
KILLS = 20
STUDY = ("--study=figure4", "--budget=smoke", "--yes")
CELL = Path("cells") / "mnist_eps0.3_nfgsm_pnil_repeat0_fold0"


def state(cell: Path) -> set[str]:
    """What is there of a cell; grows whenever work is done."""
    return {str(path) for path in cell.rglob("*") if path.suffix in (".index", ".npz", ".keras")}


def children(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def wait_for(condition, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def is_free(cell: Path) -> bool:
    with open(cell / ".lock", "w") as file, contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def numbers(output: Path) -> list:
    """What the cells found, without what the clock decides."""
    cells = json.loads((output / "results.json").read_text())["cells"]
    for cell in cells:
        for key in ("finished", "training_seconds"):
            del cell["training"][key]
        del cell["training"]["kept"]["sha256"]  # the archive holds its date
        for evaluation in cell["evaluations"].values():
            del evaluation["seconds"]
            for figure in evaluation.values():
                for key in ("seconds", "cpu_seconds"):
                    isinstance(figure, dict) and figure.pop(key, None)
    return cells


def killed(grid, cell: Path, generator: random.Random, number: int) -> bool:
    """Kills the grid at a random moment, its job with it or not; whether it was at work."""
    if number % 4 == 0:
        time.sleep(generator.uniform(0, 20))  # most of it is spent before anything is gained
    else:
        before = state(cell)
        while grid.poll() is None and not state(cell) - before:
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 1.5))
    victims = [*(children(grid.pid) if number % 2 else []), grid.pid]
    at_work = grid.poll() is None
    for pid in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    grid.communicate(timeout=120)  # whatever outlives it keeps its standard error open
    assert wait_for(lambda: not cell.exists() or is_free(cell), 120), "a job outlived its grid"
    return at_work


@pytest.mark.timeout(3000)
def test_a_study_killed_at_20_moments(tmp_path):
    status, _, err = run("reproduce.py", *STUDY, f"--output={tmp_path / 'calm'}", timeout=600)
    assert status == 0, err
    generator = random.Random(SEED)
    kills = studies = 0
    while kills < KILLS:
        output = tmp_path / f"killed_{studies}"
        studies += 1
        for number in range(kills, KILLS):
            grid = start("reproduce.py", *STUDY, f"--output={output}")
            if not killed(grid, output / CELL, generator, number):
                break  # it was done before
            kills += 1
        status, _, err = run("reproduce.py", *STUDY, f"--output={output}", timeout=600)
        assert status == 0, err
        print(f"seed {SEED}, study {studies}: {kills} kills so far", flush=True)
        assert_same(tmp_path / "calm" / CELL / "run", output / CELL / "run")
        assert numbers(tmp_path / "calm") == numbers(output)
        assert (output / "figures" / "figure4.png").exists()
