"""What the README and the pages of the documentation show runs as it stands there."""

import importlib
import re
import statistics
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from methods_table import figures_of, records_of, table

import pnil_tf

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    block
    for page in PAGES
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
]


def classifier(*first):
    return keras.Sequential(
        [keras.Input((8, 8, 1)), *first, keras.layers.Flatten(), keras.layers.Dense(4)]
    )


@pytest.fixture
def names(blobs, tmp_path, monkeypatch):
    """What the examples find, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    x, y = blobs
    return {
        "keras": keras,
        "pnil_tf": pnil_tf,
        "tf": tf,
        "classifier": classifier(pnil_tf.PNILLayer()),
        "x": x,
        "y": y,
    }


def run(mark, names):
    """Runs the one example that holds `mark`."""
    found = [block for block in BLOCKS if mark in block]
    assert len(found) == 1, f"{len(found)} examples hold {mark!r}"
    exec(found[0], names)


def test_examples_are_short():
    assert len(BLOCKS) == 16
    for block in BLOCKS:
        lines = block.strip().splitlines()
        assert len(lines) <= 8
        assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("page", ["README.md", "docs/getting-started.md", "docs/python.md"])
def test_a_page_begins_with_its_imports(page):
    first = (ROOT / page).read_text("utf-8").split("```python\n")[1].split("```")[0]
    names = {}
    exec(first.split("\n\n")[0], names)
    assert {"keras", "pnil_tf"} <= names.keys()


def test_three_lines_train_a_model_of_ones_own(names):
    names["classifier"] = classifier()
    (block,) = [block for block in BLOCKS if "model.fit(x, y, epochs=5, val" in block]
    assert len(block.removeprefix("import keras, pnil_tf\n\n").strip().splitlines()) == 3
    exec(block, names)
    history = names["model"].history.history
    assert history["loss"][-1] < history["loss"][0]
    assert "val_adversarial_accuracy" in history
    assert any(isinstance(layer, pnil_tf.PNILLayer) for layer in names["model"].classifier.layers)


def test_noise_follows_a_scope_and_is_fresh_outside(names):
    run("noise_scope(7):\n    first", names)
    assert (names["first"] == names["second"]).numpy().all()
    one, other = (names["classifier"](names["x"][:8]) for _ in range(2))
    assert not (one == other).numpy().any()


def test_training_with_a_schedule_and_a_guard(names):
    run("OverfittingGuard", names)
    history = names["model"].history.history
    assert history["loss"][-1] < history["loss"][0]
    assert "guard_pgd_accuracy" in history
    assert names["model"].steps_taken == names["rate"].total_steps
    assert names["model"].attack.eot.draws == 2


def test_an_attack_of_the_evaluation(names):
    run("build_attack", names)
    moved = np.abs(names["adversarial"] - names["x"][:8])
    assert moved.shape == (8, 8, 8, 1)
    assert 0 < moved.max() < 8 / 255 + 1e-6
    assert names["settings"].eot.draws == 10


@pytest.mark.slow
def test_three_lines_say_what_a_figure_is_worth(names, tmp_path):
    names |= {"model": names["classifier"], "x_test": names["x"][:10], "y_test": names["y"][:10]}
    run("pnil_tf.evaluate(model, x_test", names)
    assert names["result"].verdict == "doubtful"
    assert (tmp_path / "evaluation" / "report.html").exists()


def test_one_attack_without_checks_gives_its_images_and_no_more_than_a_doubt(names):
    run("checks=False)", names)
    assert names["result"].verdict == "doubtful"
    assert names["adversarial"].shape == (20, 8, 8, 1)


def test_a_classifier_is_exported_and_asked(names, tmp_path):
    run('signatures["monte_carlo"]', names)
    assert names["answer"]["agreement"].shape == names["safe"].shape == (8,)
    assert (tmp_path / "served" / "1" / "model_card.md").exists()


def test_a_server_proves_its_answers(names):
    run("served/proving", names)
    assert names["found"]["class"].shape == names["found"]["radius_l2"].shape == (2,)


@pytest.mark.slow
def test_a_network_that_is_not_ours(names, tmp_path):
    run("MobileNet", names)
    assert (tmp_path / "mobile_net" / "1" / "saved_model.pb").exists()


@pytest.fixture
def photos(tmp_path):
    """Class folders of small photographs, as the page on getting started finds them."""
    random = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 4)):
        for i, name in enumerate(("cat", "dog")):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 128, (96, 96, 3)) + 127 * i
                keras.utils.save_img(folder / f"{number}.png", pixels, scale=False)


@pytest.mark.slow
def test_getting_started_goes_from_photographs_to_a_server(names, photos, tmp_path, monkeypatch):
    mobile_net = keras.applications.MobileNetV2

    def without_download(*args, **kwargs):
        return mobile_net(*args, **kwargs, weights=None, alpha=0.35)

    monkeypatch.setattr(keras.applications, "MobileNetV2", without_download)
    page = (ROOT / "docs" / "getting-started.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    for block in blocks:
        exec(block, names)
    model = names["model"]
    assert names["result"].verdict in ("doubtful", "obfuscated")
    assert (model.pixel_range.low, model.pixel_range.high) == (0, 255)
    assert "val_adversarial_accuracy" in model.history.history
    assert (tmp_path / "hardened.keras").exists()
    served = tf.saved_model.load(str(tmp_path / "served" / "1"))
    image = (tmp_path / "photos" / "test" / "cat" / "0.png").read_bytes()
    answer = served.signatures["serving_bytes"](image_bytes=tf.constant([image]))
    assert answer["logits"].shape == (1, 2)


def test_every_public_name_can_be_imported_and_is_documented():
    table = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    reference = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for name in pnil_tf.__all__:
        assert getattr(pnil_tf, name) is not None
        assert f"`{name}" in table or name == "__version__"
        assert f".{name}\n" in reference or name == "__version__"
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = pnil_tf.no_such_name


def test_the_flagfiles_are_valid_and_say_their_own_command():
    from absl import flags as absl_flags

    from pnil_tf import flags

    files = sorted((ROOT / "configs").glob("*.cfg"))
    assert files
    for file in files:
        values = absl_flags.FlagValues()
        flags.define("data", "model", "attack", "optimization", "device", "run", flag_values=values)
        values(["train.py", f"--flagfile={file}"])
        settings = flags.train_settings(values)
        assert settings.run.name == file.stem
        assert file.read_text().startswith(
            f"# python bin/train.py --flagfile=configs/{file.name}\n"
        )


def test_the_table_of_methods_is_what_the_records_say():
    text = (ROOT / "README.md").read_text("utf-8")
    for line in table():
        assert line in text, "python tests/methods_table.py prints the table as it should be"


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.cfg")), ids=lambda f: f.stem)
def test_a_flagfile_says_what_was_measured(file):
    header = [line for line in file.read_text("utf-8").splitlines() if line.startswith("#")]
    said = " ".join(line.lstrip("# ") for line in header)
    records = records_of(file.stem)
    if not records:
        assert "Not measured here" in said or "Measured (seed 0" in said
        return
    assert re.search(r"Measured \(seeds? \d", said)
    assert "test images" in said
    assert "2026-" in said
    values = [figures_of(record) for record in records]
    for name in ("clean", "pgd", "auto"):
        known = [each[name] for each in values if name in each]
        if known:
            seeds = [f"{value:.1f}%" for value in known]
            assert f"{statistics.mean(known):.1f}%" in said or all(s in said for s in seeds)


def flags_of(command):
    """The names that a command takes, those of two states in both."""
    from absl import flags as absl_flags

    from pnil_tf import flags

    values = absl_flags.FlagValues()
    groups = importlib.import_module(f"pnil_tf.commands.{command}").FLAGS
    flags.define(*groups, flag_values=values)
    known = {"flagfile", "help", "version"}
    for name in values:
        known |= {name, f"no{name}"} if values[name].boolean else {name}
    return known


def test_every_flag_of_a_command_that_the_pages_show_exists():
    """Commands in one line each; a page's rest may speak of other programs."""
    shown = re.compile(r"(?:pnil-tf |bin/|-m pnil_tf )([a-z]+[-_]?[a-z]+)(?:\.py)?( --[^\n`|]*)")
    of_command, found = {}, 0
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for command, arguments in shown.findall(page.read_text("utf-8").replace("\\\n", " ")):
            command = command.replace("-", "_")
            known = of_command.setdefault(command, flags_of(command))
            for flag in re.findall(r"--([a-z_0-9]+)", arguments):
                assert flag in known, f"{page.name}: {command} --{flag}"
                found += 1
    assert found > 50


def test_a_certificate_from_python(names, tmp_path):
    run("pnil_tf.certify(", names)
    assert (names["certificate"].radii() >= 0).all()
    assert (tmp_path / "certificate" / "certificate.html").is_file()
