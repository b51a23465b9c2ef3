"""What lies in the current folder is not imported, whatever process we start there."""

import subprocess
import sys
from pathlib import Path

import pytest

from pnil_tf.errors import RunFailedError
from pnil_tf.interpreter import run_code, run_module
from pnil_tf.jobs.process import start
from pnil_tf.runs.shard_job import ShardJob
from pnil_tf.study import cost
from pnil_tf.study.budgets import BUDGETS
from pnil_tf.study.job_folder import JobFolder
from pnil_tf.study.studies import jobs_of

ROOT = Path(__file__).resolve().parents[1]
PLANTED = [
    *(
        "h5py",
        "numpy",
        "tensorflow",
        "keras",
        "matplotlib",
        "absl",
        "scipy",
        "PIL",
        "json",
        "runpy",
    ),
    *("pnil_tf", "sitecustomize", "usercustomize", "tensorflow_datasets", "encodings", "tqdm"),
]


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """The current folder: each of its modules leaves its name where it is imported."""
    for name in PLANTED:
        said = f"open({str(tmp_path / 'imported.txt')!r}, 'a').write('{name} ')\n"
        (tmp_path / f"{name}.py").write_text(f"{said}raise ImportError('planted')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def imported(folder):
    file = folder / "imported.txt"
    return file.read_text().split() if file.exists() else []


def test_python_itself_would_import_it(hostile):
    subprocess.run([sys.executable, "-c", "import h5py"], stderr=subprocess.DEVNULL, check=False)
    assert imported(hostile) == ["h5py"]


@pytest.mark.parametrize("command", [run_code("import h5py, json"), run_module("json.tool", "-h")])
def test_code_and_modules_are_run_without_it(command, hostile):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert imported(hostile) == []


@pytest.mark.slow
def test_the_jobs_of_studies_and_evaluations_import_nothing_there(hostile):
    shard, cell = ShardJob(hostile / "shard"), JobFolder(hostile / "cell")
    shard.prepare({"gpu": None})
    cell.path.mkdir()
    for job in (shard, cell):
        assert start(job).wait(300) == 1  # nothing says what is to be done
        last = job.log.read_text().splitlines()[-1]
        assert "settings" in last or "job.json" in last, last
    assert imported(hostile) == []


def test_measuring_the_machine_imports_nothing_there(hostile, monkeypatch):
    monkeypatch.setattr(cost, "_MEASURING", "pnil_tf.study.planted_nowhere")
    with pytest.raises(RunFailedError, match=r"could not be measured: .* status 1"):
        cost.measured(jobs_of("figure1", BUDGETS["smoke"]))
    assert imported(hostile) == []


def test_no_other_code_starts_python_with_code_or_a_module():
    for file in (ROOT / "pnil_tf").rglob("*.py"):
        if file.name != "interpreter.py":
            text = file.read_text(encoding="utf-8")
            assert '"-c"' not in text, file
            assert '"-m"' not in text, file
            assert "multiprocessing" not in text, file


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "bin").glob("*.py")))
def test_commands_import_nothing_there(script, hostile):
    done = subprocess.run(
        [sys.executable, str(ROOT / "bin" / script), "--help"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert imported(hostile) == []
