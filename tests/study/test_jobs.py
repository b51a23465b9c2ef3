"""Jobs and their folders: what is done stays done, and what fails is told and stops no other."""

import dataclasses
import json
import subprocess
import sys

import pytest
from planted_jobs import SMOKE, begun_study, finish, prepared

from pnil_tf.errors import RunFailedError, UserError
from pnil_tf.jobs import local
from pnil_tf.jobs.on_ray import cpus_of_each
from pnil_tf.jobs.watch import Watch
from pnil_tf.study import grid
from pnil_tf.study.cost import Rates, kind_of
from pnil_tf.study.groups import groups_of
from pnil_tf.study.job_folder import JobFolder
from pnil_tf.study.results import merged
from pnil_tf.study.settings import StudySettings
from pnil_tf.study.studies import Evaluation, jobs_of


def test_a_prepared_folder_gives_its_job_back(tmp_path):
    for job, folder in zip(jobs_of("table1", SMOKE), prepared(tmp_path), strict=True):
        assert folder.job() == job
        assert folder.read()["status"] == "waiting"


def test_another_study_adds_its_evaluations_and_trains_nothing_anew(tmp_path):
    first = prepared(tmp_path)[1]
    finish(first)
    assert first.finished
    again = prepared(tmp_path)[1]
    assert again.finished
    (noisy,) = prepared(tmp_path, "figure4")
    assert noisy.path == first.path
    assert not noisy.finished
    assert noisy.run_record() is not None
    names = [entry.name for entry in noisy.job().evaluations]
    assert names == ["draws1", "draws2", "draws5", "pgd", "others"]


@pytest.fixture
def somebody_declines(monkeypatch):
    def answer(question):
        raise EOFError

    monkeypatch.setattr(grid.sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", answer)


@pytest.mark.usefixtures("somebody_declines")
def test_a_study_that_is_declined_leaves_everything_as_it_was(tmp_path, monkeypatch, capsys):
    # A training takes forever, an attack no time.
    rate = Rates(trained=1e-9, gradients=1e12, evaluations=1e12, overhead=0.0)
    monkeypatch.setattr(grid, "measured", lambda jobs: {kind_of(job): rate for job in jobs})

    def files_after(study, output):
        with pytest.raises(UserError, match="Nothing was begun"):
            grid.reproduce(StudySettings(study, "smoke", output=str(output)))
        return {file: file.read_bytes() for file in output.rglob("*.json")}

    assert files_after("table1", tmp_path / "new") == {}
    begun_study(tmp_path, prepared(tmp_path))
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.json")}
    capsys.readouterr()
    assert files_after("figure4", tmp_path) == before
    assert "1 cells are left to do, about 0:00:00 (" in capsys.readouterr().out
    assert {record["status"] for record in merged(tmp_path, "smoke")} == {"finished"}


def test_a_cell_that_got_more_to_do_is_not_finished(tmp_path):
    folder = prepared(tmp_path)[1]
    finish(folder)
    (folder.evaluation("pgd") / "results.json").unlink()
    (record, *_) = [r for r in merged(tmp_path, "smoke") if r["name"] == folder.path.name]
    assert (record["status"], record["budget"]) == ("waiting", "smoke")


def test_a_finished_cell_that_lost_its_description_gets_it_back(tmp_path, monkeypatch):
    folders = prepared(tmp_path)
    begun_study(tmp_path, folders)
    folders[2].state_file.unlink()
    rate = Rates(trained=1e-9, gradients=1e12, evaluations=1e12, overhead=0.0)
    monkeypatch.setattr(grid, "measured", lambda jobs: {kind_of(job): rate for job in jobs})
    worked = []
    monkeypatch.setattr(
        grid, "run_jobs", lambda engine, folders, *others, **more: worked.extend(folders)
    )
    monkeypatch.setattr(grid, "_report", lambda output, results: None)
    results = grid.reproduce(StudySettings("table1", "smoke", output=str(tmp_path), yes=True))
    assert results["names"] == [folder.path.name for folder in folders]
    assert [folder.path for folder in worked] == [folders[2].path]
    assert [record["status"] for record in results["cells"]] == ["finished"] * 4


def test_what_an_earlier_study_left_is_predicted_and_done_too(tmp_path):
    (noisy,) = prepared(tmp_path, "figure4")
    job = jobs_of("table1", SMOKE)[1]
    assert not noisy.has_done(job)
    names = ["pgd", "others", "draws1", "draws2", "draws5"]
    assert [entry.name for entry in noisy.left_of(job).evaluations] == names
    noisy.prepare(job, None)
    assert [entry.name for entry in noisy.job().evaluations] == names
    finish(noisy)
    assert noisy.has_done(job)


def test_a_study_killed_as_it_began_does_not_lose_its_folder(tmp_path):
    (tmp_path / ".study.7.tmp.json").write_text("{")
    with pytest.raises(UserError, match="Nobody can be asked"):
        grid.reproduce(StudySettings("table1", "smoke", output=str(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_damaged_cell_is_told_and_hides_no_other(tmp_path):
    folders = prepared(tmp_path)
    begun_study(tmp_path, folders)
    (folders[1].evaluation("others") / "results.json").write_text("{")
    with pytest.raises(RunFailedError, match="not in the results") as caught:
        grid.reproduce(StudySettings("table1", "smoke", output=str(tmp_path), report_only=True))
    assert "results.json" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    results = json.loads((tmp_path / "results.json").read_text())
    assert [record["status"] for record in results["cells"]] == ["finished"] * 3 + ["damaged"]
    report = (tmp_path / "report.md").read_text()
    assert "3 of 4 cells are finished" in report
    assert f"| {folders[1].path.name} | damaged |" in report


def test_what_a_suite_leaves_is_merged_beside_its_attacks(tmp_path):
    (job,) = jobs_of("table1", SMOKE)[:1]
    suite = Evaluation("auto", 0.3, {"attacks": ["auto"]})
    folder = JobFolder(tmp_path / "cells" / job.cell.name)
    folder.prepare(dataclasses.replace(job, evaluations=(*job.evaluations, suite)), None)
    finish(folder)
    (record,) = merged(tmp_path, "smoke")
    assert record["evaluations"]["auto"]["auto"]["value"] == 0.5
    assert groups_of([record])[0].summary("auto") == (0.5, None)


def test_a_cell_that_is_gone_is_told(tmp_path):
    names = [folder.path.name for folder in prepared(tmp_path)]
    (tmp_path / "cells" / names[2] / "job.json").unlink()
    records = merged(tmp_path, "smoke", names)
    assert [record["status"] for record in records] == ["waiting"] * 3 + ["missing"]
    assert records[-1]["name"] == names[2]


def test_results_of_a_classifier_that_is_gone_are_not_merged(tmp_path):
    folder = prepared(tmp_path)[0]
    finish(folder)
    (folder.run / "run.json").unlink()
    (record, *_) = [r for r in merged(tmp_path, "smoke") if r["name"] == folder.path.name]
    assert (record["status"], record["evaluations"]) == ("waiting", {})


def test_another_effort_is_refused(tmp_path):
    folder = prepared(tmp_path)[0]
    job = jobs_of("table1", SMOKE)[0]
    state = folder.read()
    state["effort"]["epochs"] += 1
    folder.write(state)
    with pytest.raises(UserError, match="another effort"):
        folder.prepare(job, None)


def test_an_evaluation_cannot_lie_outside_its_job(tmp_path):
    folder = prepared(tmp_path)[0]
    state = folder.read()
    folder.write({**state, "evaluations": [{**state["evaluations"][0], "name": "x/../../../y"}]})
    with pytest.raises(UserError, match="no name of an evaluation"):
        folder.job()


def python(code):
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)


@pytest.mark.parametrize(
    ("status", "words"), [(3, "with status 3"), (-9, "by SIGKILL"), (-15, "by SIGTERM")]
)
def test_a_process_that_ends_without_a_word_has_failed(tmp_path, status, words):
    folder = prepared(tmp_path)[0]
    folder.note_end(status)
    assert folder.read()["status"] == "failed"
    assert words in folder.read()["error"]


def test_what_a_failed_job_said_stands(tmp_path):
    folder = prepared(tmp_path)[0]
    folder.update(status="failed", error="no images")
    folder.note_end(1)
    assert folder.read()["error"] == "no images"
    (record, *_) = [r for r in merged(tmp_path, "smoke") if r["name"] == folder.path.name]
    assert (record["status"], record["error"]) == ("failed", "no images")


@pytest.mark.parametrize("workers", [1, 3])
def test_a_failed_job_does_not_stop_the_others(tmp_path, monkeypatch, workers):
    folders = prepared(tmp_path)
    at_once, most, order = [], [0], []

    def start(folder, threads):
        at_once.append(folder)
        most[0] = max(most[0], len(at_once))
        order.append(folder)
        assert (threads is None) == (workers == 1)
        return python("import os; os.abort()" if folder is folders[1] else "pass")

    def ended(folder):
        at_once.remove(folder)
        if folder is not folders[1]:
            finish(folder)

    monkeypatch.setattr(local, "start", start)
    local.run_locally(folders, workers, Watch(ended=ended))
    assert order == folders
    assert most[0] == workers
    assert [folder.finished for folder in folders] == [True, False, True, True]
    assert "SIGABRT" in folders[1].read()["error"]


def test_an_interrupted_engine_stops_its_jobs(tmp_path, monkeypatch):
    processes = []

    def start(folder, threads):
        processes.append(python("import time; time.sleep(600)"))
        return processes[-1]

    def started(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "start", start)
    with pytest.raises(KeyboardInterrupt):
        local.run_locally(prepared(tmp_path), 1, Watch(started))
    assert [process.poll() for process in processes] == [-15]


def test_merged_records_name_no_path_of_this_machine(tmp_path):
    folders = prepared(tmp_path)
    for folder in folders[1:]:
        finish(folder)
    folders[0].update(status="failed", error=f"{folders[0].path} cannot be read")
    assert str(tmp_path) not in json.dumps(merged(tmp_path, "smoke"))
    # As table 1 has them: without PNIL first, then by fold.
    cells = [record["cell"] for record in merged(tmp_path, "smoke")]
    assert [(cell["pnil"], cell["fold"]) for cell in cells] == [
        *((False, 0), (False, 1)),
        *((True, 0), (True, 1)),
    ]


@pytest.mark.parametrize(
    ("cpus", "workers", "each"),
    [([8], 2, 4), ([8, 8], 2, 8), ([8, 8], 8, 2), ([4, 32], 2, 4), ([0, 1, 1], 4, 1), ([], 1, 1)],
)
def test_ray_s_jobs_share_the_cpus_of_all_nodes(cpus, workers, each):
    nodes = [{"Alive": True, "Resources": {"CPU": float(count)}} for count in cpus]
    nodes += [{"Alive": False, "Resources": {"CPU": 64.0}}, {"Alive": True, "Resources": {}}]
    assert cpus_of_each(nodes, workers) == each
