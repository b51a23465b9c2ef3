"""`bin/reproduce.py` from end to end on the smallest budget, killed and interrupted."""

import contextlib
import fcntl
import importlib.util
import json
import os
import signal
import time

import pytest
from command import run, start
from planted_jobs import begun_study, prepared

from pnil_tf.errors import RunFailedError
from pnil_tf.study import grid
from pnil_tf.study.cost import Rates, kind_of
from pnil_tf.study.settings import StudySettings

SMOKE = ("--study=table1", "--budget=smoke", "--yes")


def wait_for(condition, seconds=400.0):  # others may keep the machine busy
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.1)


def training_finished(cell):
    file = cell / "run" / "run.json"
    return file.exists() and json.loads(file.read_text())["status"] == "finished"


def is_free(folder):
    """Whether no process works in a cell's folder."""
    with open(folder / ".lock", "w") as file, contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


@pytest.fixture
def output(tmp_path):
    return tmp_path / "study"


def kill_when_trained(output, cell):
    """Starts a study and kills it as soon as a cell is trained; when the classifier was written."""
    grid = start("reproduce.py", *SMOKE, f"--output={output}")
    try:
        wait_for(lambda: training_finished(cell))
    finally:
        os.kill(grid.pid, signal.SIGKILL)
        grid.communicate()
    wait_for(lambda: is_free(cell))  # the job ends with the grid that started it
    return (cell / "run" / "classifier.keras").stat().st_mtime_ns


@pytest.mark.slow
@pytest.mark.faults
def test_the_last_cell_is_done_though_it_is_killed(output):
    *others, last = prepared(output)
    begun_study(output, others)
    trained = kill_when_trained(output, last.path)
    status, out, err = run("reproduce.py", *SMOKE, f"--output={output}")
    assert status == 0, err
    assert "1 cells are left to do, about" in out
    assert "[4 of 4]" in err
    assert (last.run / "classifier.keras").stat().st_mtime_ns == trained

    results = json.loads((output / "results.json").read_text())
    assert [cell["status"] for cell in results["cells"]] == ["finished"] * 4
    assert str(output.parent) not in json.dumps(results)
    (noisy,) = (cell for cell in results["cells"] if cell["name"] == last.path.name)
    assert noisy["training"]["seed"] == 1
    assert noisy["training"]["noise"]["initial_sigma"] == 0.37
    assert {"pgd", "clean"} <= set(noisy["evaluations"]["pgd"])
    assert {"spsa", "pgd_strong"} <= set(noisy["evaluations"]["others"])

    # Nothing is left to do: no measuring, no training, and the reports are written again.
    (output / "report.html").unlink()
    status, _, err = run("reproduce.py", *SMOKE, f"--output={output}")
    assert status == 0, err
    assert "4 cells, 4 of them done" in err
    assert "Measuring" not in err
    assert (output / "report.html").exists()


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.timeout(1500)
def test_the_smoke_budget_is_done_though_it_is_killed(output):
    first = output / "cells" / "mnist_eps0.3_nfgsm_repeat0_fold0"
    trained = kill_when_trained(output, first)
    # Under two minutes on two idle cores; test machines are not always idle.
    status, out, err = run("reproduce.py", *SMOKE, f"--output={output}", timeout=900)
    assert status == 0, err
    assert "cells are left to do, about" in out
    assert "[4 of 4]" in err
    assert (first / "run" / "classifier.keras").stat().st_mtime_ns == trained

    results = json.loads((output / "results.json").read_text())
    assert [cell["status"] for cell in results["cells"]] == ["finished"] * 4
    assert results["budget"]["name"] == "smoke"
    by_name = {cell["name"]: cell for cell in results["cells"]}
    plain, noisy = (by_name[f"mnist_eps0.3_nfgsm{p}_repeat0_fold1"] for p in ("", "_pnil"))
    assert plain["training"]["seed"] == noisy["training"]["seed"] == 1
    assert plain["training"]["data"]["sha256"] == noisy["training"]["data"]["sha256"]

    text = (output / "report.md").read_text()
    assert "NFGSM with PNIL | 2 |" in text
    assert "MNIST (5,000 digits)" in text
    status, _, err = run("reproduce.py", "--report_only", "--budget=smoke", f"--output={output}")
    assert status == 0, err
    assert (output / "report.html").exists()


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_study_stops_its_job_and_can_go_on(output, number, expected):
    study = ("--study=figure1", "--budget=smoke", "--yes", f"--output={output}")
    cell = output / "cells" / "mnist_eps0.3_nfgsm_pnil_repeat0_fold0"
    grid = start("reproduce.py", *study)
    try:
        wait_for(lambda: (cell / ".lock").exists())
        grid.send_signal(number)
        _, err = grid.communicate(timeout=90)
    finally:
        grid.kill()
    assert grid.returncode == expected
    assert is_free(cell)
    assert "The same command" in err
    if number == signal.SIGINT:
        return  # once is enough to see that it goes on
    status, _, err = run("reproduce.py", *study)
    assert status == 0, err
    assert (output / "figures" / "figure1.png").exists()


def test_failed_cells_are_told(output, monkeypatch, capsys):
    (folder,) = prepared(output, "figure1")
    begun_study(output, [])
    folder.run.mkdir()
    (folder.run / "thesis.txt").write_text("in the way")
    rates = Rates(1.0, 1.0, 1.0, overhead=1.0)
    monkeypatch.setattr(grid, "measured", lambda jobs: {kind_of(job): rates for job in jobs})
    with pytest.raises(RunFailedError, match=r"1 of 1 cells failed.*holds no run"):
        grid.reproduce(StudySettings("figure1", "smoke", output=str(output), yes=True))
    assert "FAILED" in capsys.readouterr().err
    assert "holds no run" in (output / "report.md").read_text()
    assert (folder.run / "thesis.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--study=table2"], "table2"),
        (["--budget=huge"], "huge"),
        (["--workers=0"], "--workers must be a whole number, at least 1"),
        (["--gpus_per_job=1"], "shared out by Ray"),
        (["--gpus_per_job=-1", "--engine=ray"], "must be 0 or a part of 1"),
        (["--study=cifar10_madry", "--budget=smoke"], "digits only"),
        (["--report_only", "--output=/does/not/exist"], "nothing to report"),
        (["--output=/etc/passwd"], "must be a folder"),
    ],
)
def test_mistakes_are_answered_before_work_begins(arguments, words):
    status, out, err = run("reproduce.py", *arguments)
    assert status == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert out == ""


def test_a_foreign_folder_and_another_budget_are_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    status, _, err = run("reproduce.py", *SMOKE, f"--output={tmp_path}")
    assert status == 2
    assert "holds no study" in err
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]
    (tmp_path / "study.json").write_text(json.dumps({"budget": {"name": "cpu"}}))
    status, _, err = run("reproduce.py", *SMOKE, f"--output={tmp_path}")
    assert status == 2
    assert "another budget ('cpu'" in err


def test_two_studies_do_not_share_a_folder_at_once(tmp_path):
    with open(tmp_path / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        status, _, err = run("reproduce.py", *SMOKE, f"--output={tmp_path}")
    assert status == 2
    assert "Another process works" in err


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="ray is installed")
def test_ray_is_named_where_it_is_missing(tmp_path):
    status, _, err = run("reproduce.py", *SMOKE, "--engine=ray", f"--output={tmp_path}")
    assert status == 2
    assert "pnil_tf[ray]" in err
