"""The public names: imported when first used, and known to type checkers with their types."""

import ast
import subprocess
import sys
from pathlib import Path

import pnil_tf

ROOT = Path(__file__).resolve().parents[1]


def test_type_checkers_are_told_the_names_that_exist():
    tree = ast.parse(Path(pnil_tf.__file__).read_text(encoding="utf-8"))
    (told,) = [node.body for node in tree.body if isinstance(node, ast.If)]
    imports = [(alias, node.module) for node in told for alias in node.names]
    assert all(alias.name == alias.asname for alias, _ in imports)
    assert {alias.name: module for alias, module in imports} == pnil_tf._HOMES
    assert len(imports) == len(pnil_tf._HOMES)


def test_type_checkers_know_signatures_and_refuse_misspelt_names(tmp_path):
    code = "import pnil_tf\n\nreveal_type(pnil_tf.add_pnil)\npnil_tf.export_saved_modle\n"
    (tmp_path / "user.py").write_text(code)
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", tmp_path / "cache", tmp_path / "user.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    said = result.stdout.splitlines()
    assert result.returncode == 1, result.stdout + result.stderr
    assert any("user.py:3" in line and '"def (model: ' in line for line in said), said
    (error,) = [line for line in said if " error: " in line]
    assert "user.py:4" in error
    assert 'no attribute "export_saved_modle"' in error


def test_importing_the_package_imports_no_tensorflow():
    code = (
        "import sys, pnil_tf; dir(pnil_tf); sys.exit('tensorflow' in sys.modules "
        "or 'keras' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
