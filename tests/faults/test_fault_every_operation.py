"""Killed before any single operation on files: nothing is lost, and the same call goes on."""

import json
import shutil

import pytest
import without_work
from killing import kills
from tiny import digests

from pnil_tf.errors import UserError
from pnil_tf.evaluation.output import ARRAYS, REPORT, RESULTS, STATE
from pnil_tf.files import read_json, replacing_folder, restore_folder, sha256_of
from pnil_tf.runs.directory import RunDirectory
from pnil_tf.runs.own_files import FLAGS_BEGIN
from pnil_tf.runs.settings import RunSettings

pytestmark = pytest.mark.faults


# --- Runs.


def record(seed, status):
    return {"status": status, "seed": seed, "versions": {"pnil_tf": "0.1.0"}}


def train(root, seed, **how):
    settings = RunSettings(runs_dir=str(root / "runs"), name="mine", **how)
    without_work.train(settings, record(seed, "unfinished"))


@pytest.fixture
def root(tmp_path):
    return tmp_path.resolve()


def seeds_of(root):
    """The seeds of the whole runs that can be found, wherever they are."""
    found = []
    for file in (root / "runs").rglob("run.json"):
        said = read_json(file)
        whole = file.parent / "classifier.keras"
        if said["status"] == "finished" and whole.exists():
            assert whole.read_text() == f"weights of {said['seed']}"
            found.append(said["seed"])
    return found


def test_a_fresh_training(root):
    for _ in kills(root, lambda: train(root, 1)):
        run = root / "runs" / "mine"
        try:
            train(root, 1)
        except UserError:  # it got as far as to be continued, or further
            train(root, 1, resume=True)
        assert seeds_of(root) == [1]
        assert not list(run.glob(".*.tmp*"))
        assert [entry.name for entry in (root / "runs").iterdir()] == ["mine"]
        shutil.rmtree(root / "runs")


@pytest.mark.parametrize(
    "again",
    [
        {"overwrite": True},
        *(pytest.param(again, marks=pytest.mark.slow) for again in ({"resume": True}, {})),
    ],
)
def test_a_training_that_replaces_another(root, again):
    train(root, 1)
    thesis = root / "runs" / "mine" / "thesis.txt"
    thesis.write_text("years of work")
    shutil.copytree(root / "runs", root.parent / f"{root.name}_before")
    for number in kills(root, lambda: train(root, 2, overwrite=True)):
        assert set(seeds_of(root)) & {1, 2}, f"both are gone after {number}"
        try:
            train(root, 2, **again)
        except UserError:
            assert not again  # there is a run, and nothing says what becomes of it
        else:
            assert "resume" in again or seeds_of(root) == [2]
            assert {entry.name for entry in (root / "runs").iterdir()} == {"mine"}
        assert set(seeds_of(root)) & {1, 2}
        assert [f.read_text() for f in root.rglob("thesis.txt")] == ["years of work"]
        shutil.rmtree(root / "runs")
        shutil.copytree(root.parent / f"{root.name}_before", root / "runs")
    shutil.rmtree(root.parent / f"{root.name}_before")


@pytest.mark.parametrize("reached", [True, False])
def test_a_training_that_fails_gives_the_earlier_run_back(root, reached):
    train(root, 1)
    before = digests(root / "runs" / "mine")

    def fail():
        run = RunDirectory(RunSettings(runs_dir=str(root / "runs"), name="mine", overwrite=True))
        run.begin(record(2, "unfinished"), f"{FLAGS_BEGIN}X")
        if reached:
            run.kept.write_text("weights of 2")
        return run.keep_old()

    new = fail()
    assert digests(root / "runs" / "mine") == before
    assert (new is not None) is reached
    if reached:
        assert new.name == "mine_failed"
        assert (new / "checkpoints" / "kept.keras").read_text() == "weights of 2"
        shutil.rmtree(new)
    assert [entry.name for entry in (root / "runs").iterdir()] == ["mine"]
    for _ in kills(root, fail):
        assert 1 in seeds_of(root)
        train(root, 3, overwrite=True)
        assert seeds_of(root) == [3]
        shutil.rmtree(root / "runs")
        train(root, 1)


# --- Exports.


def export(root, text):
    with replacing_folder(root / "served" / "1") as folder:
        (folder / "assets").mkdir()
        for name in ("saved_model.pb", "assets/names.json"):
            (folder / name).write_text(text)


def content(root):
    return {path.read_text() for path in (root / "served" / "1").rglob("*") if path.is_file()}


@pytest.mark.parametrize("first", [True, False])
def test_an_export(root, first):
    if not first:
        export(root, "old")
    for _ in kills(root, lambda: export(root, "new")):
        restore_folder(root / "served" / "1")
        if (root / "served").exists():
            assert content(root) in ({"new"}, set() if first else {"old"})
            assert {entry.name for entry in (root / "served").iterdir()} <= {"1"}
        export(root, "newest")
        assert content(root) == {"newest"}
        assert [entry.name for entry in (root / "served").iterdir()] == ["1"]
        shutil.rmtree(root / "served")
        if not first:
            export(root, "old")


# --- Evaluations.


def evaluate(root, computed=None, resume=True):
    computed = [] if computed is None else computed
    return without_work.evaluate(root / "out", {}, resume, lambda: computed.append(1))


@pytest.mark.parametrize("replaced", [True, False])
def test_an_evaluation(root, replaced):
    finished_before = 0
    if replaced:
        evaluate(root)
    for _ in kills(root, lambda: evaluate(root, resume=not replaced)):
        output, computed = root / "out", []
        was_finished = finished_of(output)
        results = evaluate(root, computed)
        assert results["verdict"] == "credible"
        assert not (was_finished and computed), "a finished evaluation was done again"
        finished_before += was_finished
        left = {entry.name for entry in output.iterdir()} - {".lock"}
        assert left == {ARRAYS, REPORT, RESULTS}
        shutil.rmtree(output)
        if replaced:
            evaluate(root)
    assert finished_before > 2


def finished_of(output):
    file = output / RESULTS
    if not file.exists() or (output / STATE / RESULTS).exists():
        return False
    return json.loads(file.read_text())["arrays"]["sha256"] == sha256_of(output / ARRAYS)
