"""Kills before operations on files all over the commands, 100 and more: none loses a thing."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import assert_same
from tiny import EVALUATE, digests, numbers

from pnil_tf.files import read_json

pytestmark = [pytest.mark.faults, pytest.mark.slow]

SEED = 20261125
HERE = Path(__file__).parent


class Commands:
    """Commands that die before one of their operations on files in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.log = root.parent / f"{root.name}.log"
        path = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
        self._server = subprocess.Popen(
            [sys.executable, str(HERE / "kill_server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )

    def __call__(self, script: str, *arguments: str, kill: int = 0) -> int:
        """Returns the exit status, negative for a kill."""
        order = [script, [str(a) for a in arguments], str(self.root), kill, str(self.log)]
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def operations(self) -> int:
        """How many operations the last command went through."""
        return int(re.search(r"operations: (\d+)", self.log.read_text(errors="replace"))[1])

    def close(self) -> None:
        self._server.communicate()


@pytest.fixture
def commands(tmp_path):
    (tmp_path / "work").mkdir()
    made = Commands(tmp_path / "work")
    yield made
    made.close()


def places(count: int, operations: int) -> list[int]:
    """Operations to die before: the first and last few, and some between, the same every time."""
    if operations <= count:
        return list(range(1, operations + 1))
    ends = {*range(1, 4), *range(operations - 5, operations + 1)}
    between = random.Random(SEED).sample(range(4, operations - 5), count - len(ends))
    return sorted([*ends, *between])


@pytest.mark.timeout(3600)
def test_a_training_that_replaces_another(commands, train_flags):
    runs = commands.root / "runs"
    flags = [*train_flags, "--epochs=1", f"--runs_dir={runs}", "--name=mine"]
    assert commands("train.py", *flags) == 0, commands.log.read_text()
    shutil.copytree(runs / "mine", commands.root.parent / "calm")
    before = digests(runs / "mine")
    overwrite = [*flags, "--overwrite", "--seed=1"]
    assert commands("train.py", *overwrite) == 0, commands.log.read_text()
    shutil.copytree(runs / "mine", commands.root.parent / "calm_new")
    killed = 0
    for number in places(40, commands.operations()):
        shutil.rmtree(runs)
        shutil.copytree(commands.root.parent / "calm", runs / "mine")
        status = commands("train.py", *overwrite, kill=number)
        killed += status < 0
        kept = [digests(f) for f in (runs / "mine", runs / ".mine.replaced") if f.exists()]
        is_new = read_new(runs / "mine")
        assert before in kept or is_new, f"killed before operation {number}"
        again = [*flags, "--seed=1", "--resume"] if number % 2 else overwrite
        status = commands("train.py", *again)
        if not status:
            assert_same(commands.root.parent / "calm_new", runs / "mine")
            assert [entry.name for entry in runs.iterdir()] == ["mine"]
        else:  # the earlier run is there again, and is not gone on with as another one
            assert digests(runs / "mine") == before
            assert "begun with --seed=0" in commands.log.read_text()
    assert killed >= 38


def read_new(run: Path) -> bool:
    if not (run / "run.json").exists():
        return False
    record = read_json(run / "run.json")
    return record["status"] == "finished" and record["seed"] == 1


def kill_and_resume(commands, count: int, output: Path, script: str, *arguments: str):
    """Kills a command that writes a folder, and repeats it: yields whether each kill hit it."""
    assert commands(script, *arguments) == 0, commands.log.read_text()
    for number in places(count, commands.operations()):
        shutil.rmtree(output)
        killed = commands(script, *arguments, kill=number) < 0
        assert commands(script, *arguments) == 0, commands.log.read_text()
        yield killed


@pytest.mark.timeout(3600)
def test_an_evaluation(commands, trained, evaluated):
    output = commands.root / "out"
    arguments = [f"--model={trained}", f"--output={output}", *EVALUATE, "--resume"]
    killed = 0
    for hit in kill_and_resume(commands, 35, output, "evaluate.py", *arguments):
        killed += hit
        assert numbers(output / "results.json") == numbers(evaluated / "results.json")
    assert killed >= 33


@pytest.mark.timeout(3600)
def test_an_export_that_replaces_another(commands, trained):
    served = commands.root / "served"
    arguments = [f"--model={trained}", f"--output={served / '1'}", "--overwrite"]
    assert commands("export.py", *arguments) == 0, commands.log.read_text()
    names = set(digests(served))
    killed = 0
    assert commands("export.py", *arguments) == 0, commands.log.read_text()
    for number in places(40, commands.operations()):
        killed += commands("export.py", *arguments, kill=number) < 0
        folders = [served / "1", served / ".1.replacing" / "old"]
        assert any({f"1/{n}" for n in digests(f)} == names for f in folders if f.exists()), number
        assert commands("export.py", *arguments) == 0, commands.log.read_text()
        assert set(digests(served)) == names
        assert [entry.name for entry in served.iterdir()] == ["1"]
    assert killed >= 20


CERTIFY = [
    "--seed=0",
    "--images=10",
    "--draws=20",
    "--selection_draws=5",
    "--batch_size=50",
    "--epsilons=0.1",
]


@pytest.mark.timeout(3600)
def test_a_certificate(commands, trained):
    output, calm = commands.root / "out", commands.root.parent / "calm"
    arguments = [f"--model={trained}", *CERTIFY]
    assert commands("certify.py", *arguments, f"--output={calm}") == 0, commands.log.read_text()
    resumed = [*arguments, f"--output={output}", "--resume"]
    killed = 0
    for hit in kill_and_resume(commands, 40, output, "certify.py", *resumed):
        killed += hit
        assert_same_arrays(calm / "certificate.npz", output / "certificate.npz")
        assert not (output / "pieces").exists()
    assert killed >= 20


def assert_same_arrays(a: Path, b: Path) -> None:
    with np.load(a, allow_pickle=False) as first, np.load(b, allow_pickle=False) as second:
        assert set(first) == set(second)
        for name in first:
            np.testing.assert_array_equal(first[name], second[name])
