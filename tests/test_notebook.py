"""The notebook on getting started runs from its first cell to its last."""

import json
from pathlib import Path

import matplotlib
import pytest

pytest.importorskip("mlxtend")
CELLS = json.loads(
    (Path(__file__).parents[1] / "docs" / "getting-started.ipynb").read_text(encoding="utf-8")
)["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]


def test_the_notebook_is_kept_without_its_output():
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in CODE)


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
