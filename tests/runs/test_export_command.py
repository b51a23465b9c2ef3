"""bin/export.py: a run's folder becomes a SavedModel that says where it comes from."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import run as run_script
from served_models import SHAPE, noisy, sequential

from pnil_tf.errors import UserError
from pnil_tf.files import sha256_of
from pnil_tf.runs.export import export_saved

NAMES = ["cat", "dog|wolf", "<script>alert(1)</script>", "a\n# b"]


@pytest.fixture
def run(tmp_path):
    """A run's folder, as training leaves it."""
    folder = tmp_path / "my_run"
    folder.mkdir()
    noisy().save(folder / "classifier.keras")
    figure = {"low": 0.91, "high": 0.95, "images": 500}
    record = {
        "data": {
            "name": "folder:/home/somebody/pets",
            "source_detail": "folder /home/somebody/pets",
            "note": "Trained on *few* images.",
            "class_names": NAMES,
        },
        "settings": {
            "data": {"dataset": "folder:/home/somebody/pets", "image_size": [8, 8]},
            "attack": {"attack": "nfgsm", "epsilon": 0.25},
            "run": {"runs_dir": "/home/somebody/runs"},
        },
        "result": {
            "clean_accuracy": {"value": 0.93, **figure},
            "pgd_accuracy": {"value": 0.92, **figure},
            "attack": "pgd",
            "steps": 50,
            "epsilon": 0.25,
            "norm": "linf",
        },
    }
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def evaluated(run, **changes):
    figure = {"low": 0.5, "high": 0.7, "images": 100}
    results = {
        "identity": {"model": sha256_of(run / "classifier.keras")},
        "data": {"name": "folder:/home/somebody/pets"},
        "settings": {"epsilon": 0.25, "norm": "linf"},
        "clean": {"value": 0.61, **figure},
        "effective_robustness": {"attack": "pgd_strong", "value": 0.62, **figure},
        "worst_case_per_image": {"value": 0.63, **figure},
        "verdict": "credible",
        "verdict_reason": "no check found it hollow.",
        **changes,
    }
    (run / "evaluation").mkdir()
    (run / "evaluation" / "results.json").write_text(json.dumps(results))


def card(run, tmp_path):
    return (export_saved(str(run), str(tmp_path / "out")) / "model_card.md").read_text()


def test_the_command(run, tmp_path):
    output = tmp_path / "new" / "1"
    status, out, err = run_script("export.py", f"--model={run}", f"--output={output}")
    assert status == 0, err
    assert str(output) in out
    assert json.loads((output / "assets" / "class_names.json").read_text()) == NAMES
    steps = json.loads((output / "assets" / "preprocessing.json").read_text())
    assert steps["resize"]["size"] == [8, 8]
    with pytest.raises(UserError, match=r"There is an export already\."):
        export_saved(str(run), str(output))


@pytest.mark.slow
def test_saved_model_cli(run, tmp_path):
    """The command that TensorFlow brings along shows and runs the export."""
    output = export_saved(str(run), str(tmp_path / "out"))
    np.save(tmp_path / "x.npy", np.zeros((2, *SHAPE), np.float32))

    start = "from tensorflow.python.tools.saved_model_cli import main; main()"
    place = ["--dir", output, "--tag_set", "serve", "--signature_def"]

    def cli(command, *arguments):
        result = subprocess.run(
            [sys.executable, "-c", start, command, *place, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    shown = cli("show", "monte_carlo_seeded")
    for name in ("images", "draws", "seed", "agreement", "class", "mean_probabilities"):
        assert f"['{name}']" in shown
    images = ["--inputs", f"images={tmp_path / 'x.npy'}"]
    answers = [cli("run", "serving_default", *images) for _ in range(2)]
    assert "output key logits" in answers[0]
    assert answers[0] != answers[1]
    assert "agreement" in cli("run", "monte_carlo", *images, "--input_exprs", "draws=3")


def test_the_card_says_what_the_run_knows(run, tmp_path):
    text = card(run, tmp_path)
    assert text.startswith("# my\\_run\n")
    assert "93.0% (91.0% to 95.0%) | 500" in text
    assert "92.0%" in text
    assert "under pgd (50 steps), epsilon 0.25 of the range (63.75 of 255), linf" in text
    assert "Trained on \\*few\\* images." in text
    assert "images in the folder pets" in text
    assert "| `attack` | nfgsm |" in text
    assert "| `epsilon` | 0.25 |" in text
    assert "monte_carlo_seeded" in text


def test_the_card_escapes_names_and_tells_no_places(run, tmp_path):
    text = card(run, tmp_path)
    assert r"| 1 | dog\|wolf |" in text
    assert "<script>" not in text
    assert "| 3 | a \\# b |" in text
    for file in (tmp_path / "out").rglob("*"):
        if file.is_file():
            assert b"somebody" not in file.read_bytes()


def test_the_card_prefers_the_evaluation(run, tmp_path):
    evaluated(run)
    text = card(run, tmp_path)
    assert "61.0% (50.0% to 70.0%) | 100" in text
    ball = "epsilon 0.25 of the range (63.75 of 255), linf"
    assert f"under the strongest attack (pgd\\_strong), {ball} | 62.0%" in text
    assert "63.0%" in text
    assert "credible: no check found it hollow." in text
    assert "93.0%" not in text


def test_the_card_shows_no_figures_of_another_model(run, tmp_path):
    evaluated(run, identity={"model": "another"})
    text = card(run, tmp_path)
    assert "61.0%" not in text
    assert "evaluation of another state of this model" in text
    assert "93.0%" in text


def test_the_card_shows_no_figures_on_other_images(run, tmp_path):
    evaluated(run, data={"name": "fashion_mnist", "sha256": "1"})
    text = card(run, tmp_path)
    assert "61.0%" not in text
    assert "an evaluation on fashion\\_mnist" in text
    assert "93.0%" in text


@pytest.mark.parametrize("change", [{"clean": None}, {"settings": {"epsilon": "x", "norm": "l2"}}])
def test_a_damaged_evaluation(change, run, tmp_path):
    evaluated(run, **change)
    with pytest.raises(UserError, match="does not say what"):
        export_saved(str(run), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_bare_model_knows_little(tmp_path):
    sequential().save(tmp_path / "bare.keras")
    text = card(tmp_path / "bare.keras", tmp_path)
    assert "4 classes have no known names" in text
    assert "Nothing was measured" in text
    assert "draws no noise" in text


@pytest.mark.parametrize(
    ("model", "words"),
    [("absent", "no model at"), ("empty", "holds no model"), ("out", "exported already")],
)
def test_what_cannot_be_exported(run, tmp_path, model, words):
    (tmp_path / "empty").mkdir()
    export_saved(str(run), str(tmp_path / "out"))
    with pytest.raises(UserError, match=words):
        export_saved(str(tmp_path / model), str(tmp_path / "other"))
    assert not Path(tmp_path / "other").exists()
