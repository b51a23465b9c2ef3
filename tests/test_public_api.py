"""The public names: imported when first used, and known to type checkers with their types."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import pnil_tf
from pnil_tf import registration

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
    (error,) = [line for line in said if "user.py" in line and " error: " in line]
    assert "user.py:4" in error
    assert 'no attribute "export_saved_modle"' in error


def test_importing_the_package_imports_no_tensorflow():
    code = (
        "import sys, pnil_tf; dir(pnil_tf); sys.exit('tensorflow' in sys.modules "
        "or 'keras' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


LOAD = """
for name, layer in (("classifier", None), ("OneCycle", "classifier"), ("Triangular", "classifier")):
    loaded = {load}(name + ".keras")
    found = loaded if layer is None else getattr(loaded, layer)
    assert type(found.layers[0]).__name__ == "PNILLayer", found.layers
    assert layer is None or type(loaded.optimizer._learning_rate).__name__ == name
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    layers = [keras.Input((4,)), pnil_tf.PNILLayer(), keras.layers.Dense(3)]
    classifier = keras.Sequential(layers)
    classifier.save(folder / "classifier.keras")
    model = pnil_tf.AdversarialModel(classifier, "nfgsm", 0.1, validation_attack="none")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for rate in (pnil_tf.OneCycle(0.01, 10), pnil_tf.Triangular(0.001, 0.01, 10)):
        model.compile(keras.optimizers.Adam(rate), loss, run_eagerly=True)
        model.fit(np.zeros((8, 4), "float32"), np.zeros(8), verbose=0)
        model.save(folder / f"{type(rate).__name__}.keras")
    return folder


def python(code, folder=ROOT):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, check=True, timeout=120
    )


@pytest.mark.parametrize(
    ("imports", "load"),
    [
        ("import pnil_tf, keras", "keras.models.load_model"),
        pytest.param("import keras, pnil_tf", "keras.models.load_model", marks=pytest.mark.slow),
        pytest.param(
            *("import pnil_tf, tensorflow as tf", "tf.keras.models.load_model"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_importing_the_package_is_enough_to_load_what_it_saved(imports, load, saved):
    python(imports + LOAD.format(load=load), saved)


def test_keras_is_told_of_every_class_that_is_registered():
    found = {}
    for file in (ROOT / "pnil_tf").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            decorators = getattr(node, "decorator_list", [])
            if any("register_keras_serializable" in ast.unparse(item) for item in decorators):
                module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
                found[node.name] = module.removesuffix(".__init__")
    assert found == registration.REGISTERED


STAND_IN = """
import os
if os.environ.pop("FAIL", None):
    raise ImportError("no such backend")
class saving:
    names = {}
    get_custom_objects = staticmethod(lambda: saving.names)
"""


def test_the_import_of_keras_is_otherwise_as_ever(tmp_path):
    (tmp_path / "keras.py").write_text(STAND_IN)
    code = (
        "import importlib, inspect, os, sys\n"
        f"sys.path.insert(0, {str(tmp_path)!r}); finders = list(sys.meta_path)\n"
        "import pnil_tf\n"
        "importlib.reload(pnil_tf); assert len(sys.meta_path) == len(finders) + 1\n"
        "os.environ['FAIL'] = '1'\n"
        "try:\n    import keras\nexcept ImportError: pass\n"
        "else: sys.exit('it was imported')\n"
        "import keras  # the second try\n"
        "assert 'pnil_tf>PNILLayer' in keras.saving.names\n"
        "assert sys.meta_path == finders\n"
        "assert 'class saving' in inspect.getsource(keras)\n"
        "importlib.reload(pnil_tf); assert sys.meta_path == finders"
    )
    python(code)
