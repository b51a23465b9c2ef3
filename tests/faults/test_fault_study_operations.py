"""A study and its job killed before any single operation on files: the same call goes on."""

import itertools
import os
import shutil
import signal

import pytest
import without_work
from killing import die, kills, watch

from pnil_tf.errors import RunFailedError
from pnil_tf.files import read_json
from pnil_tf.jobs import engine
from pnil_tf.study import grid
from pnil_tf.study import job as jobs
from pnil_tf.study.cost import Rates, kind_of
from pnil_tf.study.job_folder import JobFolder
from pnil_tf.study.settings import StudySettings

pytestmark = pytest.mark.faults

EVERY = pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
"""Of the operations, each fourth; all of them take a minute."""

FIGURE = {"value": 0.5, "low": 0.4, "high": 0.6, "images": 9, "draws": 1, "seconds": 1.0}
FOUND = {"clean": FIGURE, "attacks": {"pgd": FIGURE}, "attack_seconds": 1.0}
RECORD = {
    **dict.fromkeys(("data", "noise", "max_lr", "device", "finished", "training_seconds")),
    "seed": 1,
    "versions": {"pnil_tf": "0.1.0"},
    "guard_events": [],
    "kept": {"epoch": 1},
}


@pytest.fixture
def root(tmp_path):
    return tmp_path.resolve()


@pytest.fixture
def worked(monkeypatch):
    """What was trained and evaluated, in jobs that change files as real ones do and learn nothing.

    `worked.how` is what runs a job.
    """
    done = []

    def train(settings, given):
        done.append("training")
        without_work.train(settings.run, RECORD)

    def evaluate(model, *, output, **asked):
        name = os.path.basename(output)
        without_work.evaluate(grid.Path(output), FOUND, computing=lambda: done.append(name))

    rates = Rates(1.0, 1.0, 1.0, overhead=1.0)
    monkeypatch.setattr(grid, "measured", lambda left: {kind_of(job): rates for job in left})
    monkeypatch.setattr(grid, "_report", lambda output, results: None)
    monkeypatch.setattr(jobs, "train", train)
    monkeypatch.setattr(jobs, "evaluate_saved", evaluate)
    monkeypatch.setattr(engine, "run_locally", in_this_process)
    # A killed process leaves what it wrote to the system; it is waiting for the disk that takes.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    return done


def in_this_process(folders, workers, watch):
    for folder in folders:
        watch.started(folder)
        jobs.run_job(folder.path)
        folder.note_end(0)
        watch.ended(folder)


def study(root):
    settings = StudySettings("figure4", "smoke", output=str(root / "study"), yes=True)
    return grid.reproduce(settings)


def what_is_done(root):
    """The names of what no later call may do again."""
    done = []
    for path in (root / "study").glob("cells/*"):
        folder = JobFolder(path)
        done += ["training"] if folder.run_record() else []
        done += [file.parent.name for file in path.glob("evaluation_*/results.json")]
    return done


def assert_it_goes_on(root, worked, whole):
    before = what_is_done(root)
    worked.clear()
    results = study(root)
    assert not set(before) & set(worked), "finished work was done again"
    assert [cell["status"] for cell in results["cells"]] == ["finished"]
    assert results["cells"] == whole["cells"]
    assert read_json(root / "study" / "results.json")["cells"] == whole["cells"]
    assert not [path for path in root.rglob("*") if ".tmp" in path.name], "something is left over"
    shutil.rmtree(root / "study")


@EVERY
def test_a_study_is_killed_together_with_its_job(root, worked, every):
    whole = study(root)
    assert len(worked) > 2
    assert len(what_is_done(root)) == len(worked)
    shutil.rmtree(root / "study")
    killed = 0
    for killed in kills(root, lambda: study(root), every):  # noqa: B007 - counted
        assert_it_goes_on(root, worked, whole)
    assert killed > 40


@pytest.mark.slow
@EVERY
def test_a_job_is_killed_alone(root, worked, every, monkeypatch):
    whole = study(root)
    shutil.rmtree(root / "study")
    for number in itertools.count(1, every):

        def in_its_own(folders, workers, watch, number=number):
            for folder in folders:
                watch.started(folder)
                status = forked(lambda path=folder.path: jobs.run_job(path), number, root)
                folder.note_end(status)
                watch.ended(folder)

        with monkeypatch.context() as patched:
            patched.setattr(engine, "run_locally", in_its_own)
            try:
                study(root)
                break
            except RunFailedError as error:
                how = str(error)
            assert "ended by SIGKILL" in how
        assert_it_goes_on(root, worked, whole)
    assert number > 25


def forked(work, number, root):
    """Does some work in a process that dies before its operation of a number; how it ended."""
    child = os.fork()
    if not child:
        watch(root, lambda at: die() if at == number else None)
        work()
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status
