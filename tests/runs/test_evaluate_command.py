import json
import types

import keras
import numpy as np
import pytest
from command import run as command
from jpeg_folder import write_jpegs

from pnil_tf.data import memory
from pnil_tf.data.image_set import ImageSet
from pnil_tf.errors import UserError, speaking_of_flags
from pnil_tf.runs import evaluate
from pnil_tf.runs.evaluate import Saved, evaluate_saved, going_on_told

OPTIONS = {"images": 6, "attacks": ("fgsm",), "checks": False}


class FakeSet:
    """Stands for a data set in memory; the tests of `pnil_tf.data` read real ones."""

    def __init__(self, settings):
        self.settings = settings
        generator = np.random.default_rng(0)
        self.images = generator.integers(0, 256, (10, 4, 4, 1)).astype(np.uint8)
        self.labels = np.arange(10, dtype=np.int32) % 3

    input_shape = (4, 4, 1)

    @property
    def test(self):
        return ImageSet(self.images, self.labels)

    def describe(self):
        return {"name": self.settings.dataset, "num_classes": 3, "class_names": ["a", "b", "c"]}


@pytest.fixture
def asked(monkeypatch):
    """The data settings that were asked for."""
    found = []

    def load(settings, pixel_range):
        found.append(settings)
        return FakeSet(settings)

    monkeypatch.setattr(evaluate, "load", load)
    return found


@pytest.fixture
def run(tmp_path):
    """A run's folder, as training leaves it."""
    folder = tmp_path / "run"
    folder.mkdir()
    keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]).save(
        folder / "classifier.keras"
    )
    data = {"dataset": "mnist", "data_dir": None, "image_size": [4, 4], "split_seed": 3}
    data |= {"repeat": 2, "fold": 0}
    record = {"settings": {"data": data, "attack": {"epsilon": 0.25}}}
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def test_a_run_knows_its_data_and_epsilon(run, asked, caplog):
    caplog.set_level("INFO", "pnil_tf")
    results = evaluate_saved(str(run), options=OPTIONS)
    assert (asked[0].dataset, asked[0].image_size, asked[0].split_seed) == ("mnist", (4, 4), 3)
    assert (asked[0].repeat, asked[0].fold) == (2, 0)
    assert results["settings"]["epsilon"] == 0.25
    assert results["data"]["name"] == "mnist"
    assert (run / "evaluation" / "report.html").exists()
    assert f"The report is in {run}/evaluation/report.html" in caplog.messages


def test_the_report_says_at_which_radius_a_run_was_trained(run, asked):
    results = evaluate_saved(str(run), epsilon=0.125, options=OPTIONS)
    kind = "training run at epsilon 0.25 of the range (63.75 of 255), linf"
    assert results["model"]["kind"] == kind
    assert kind in (run / "evaluation" / "report.html").read_text()
    record = json.loads((run / "run.json").read_text())
    record["settings"]["attack"]["attack"] = "none"
    (run / "run.json").write_text(json.dumps(record))
    results = evaluate_saved(str(run), options=OPTIONS, overwrite=True)
    assert results["model"]["kind"] == "training run without an attack"


def test_a_radius_is_in_the_norm_it_was_trained_in(run, asked):
    record = json.loads((run / "run.json").read_text())
    record["settings"]["attack"] |= {"norm": "l2", "epsilon": 2.0}
    (run / "run.json").write_text(json.dumps(record))
    results = evaluate_saved(str(run), options=OPTIONS)
    assert (results["settings"]["norm"], results["settings"]["epsilon"]) == ("l2", 2.0)
    with pytest.raises(UserError, match="trained at a radius in l2"):
        evaluate_saved(str(run), norm="linf", options=OPTIONS)
    results = evaluate_saved(
        str(run), norm="linf", epsilon=0.1, options=OPTIONS, output=str(run / "other")
    )
    assert (results["settings"]["norm"], results["settings"]["epsilon"]) == ("linf", 0.1)


def test_a_radius_that_no_number_of_the_machine_holds_is_refused(run, asked):
    record = json.loads((run / "run.json").read_text())
    record["settings"]["attack"]["epsilon"] = 10**400
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"epsilon must be greater than 0, and finite.{0,80}$"):
        evaluate_saved(str(run), options=OPTIONS)


def test_what_is_said_goes_before_what_the_run_knows(run, asked, tmp_path):
    results = evaluate_saved(
        str(run),
        epsilon=0.1,
        data={"dataset": "kmnist", "data_dir": "d"},
        output=str(tmp_path / "out"),
        options=OPTIONS,
    )
    assert (asked[0].dataset, asked[0].data_dir) == ("kmnist", "d")
    assert results["settings"]["epsilon"] == 0.1
    assert (tmp_path / "out" / "results.json").exists()


@pytest.mark.parametrize(
    ("trained_on", "dataset", "kept"),
    [
        ({"data_in_memory": "false", "skip_damaged": True}, "mnist", ("auto", False, "auto")),
        ({"data_in_memory": "false", "skip_damaged": True}, "npz:x.npz", ("auto", False, "auto")),
        ({"data_in_memory": "false", "skip_damaged": True}, "folder:y", ("false", True, "auto")),
        ({"data_source": "idx"}, "folder:y", ("auto", False, "auto")),
        ({"data_source": "idx"}, "kmnist", ("auto", False, "idx")),
    ],
)
def test_how_a_run_read_its_images_is_not_asked_of_others(run, trained_on, dataset, kept):
    record = json.loads((run / "run.json").read_text())
    name = "mnist" if "data_source" in trained_on else "folder:x"
    record["settings"]["data"] |= {"dataset": name, **trained_on}
    (run / "run.json").write_text(json.dumps(record))
    data = evaluate.settle(str(run), data={"dataset": dataset}).data
    assert (data.data_in_memory, data.skip_damaged, data.data_source) == kept
    if not dataset.startswith("folder:"):  # what is said oneself is refused as ever
        with pytest.raises(UserError, match="is about a folder of images"):
            evaluate.settle(str(run), data={"dataset": dataset, "skip_damaged": True})


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({}, "give epsilon"),
        ({"epsilon": 0.1}, "give dataset"),
        ({"epsilon": 0.1, "data": {"dataset": "mnist"}}, "with output"),
        ({"epsilon": 0.0, "data": {"dataset": "mnist"}}, "greater than 0"),
    ],
)
def test_a_file_does_not(run, said, complaint):
    with pytest.raises(UserError, match=complaint):
        evaluate_saved(str(run / "classifier.keras"), **said)


def test_a_folder_without_a_model_is_asked_for_nothing_else(tmp_path):
    with pytest.raises(UserError, match="holds no model"):
        evaluate_saved(str(tmp_path))


def test_a_foreign_file_is_evaluated_in_the_pixels_it_takes(tmp_path, asked):
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(3)]
    )
    model.save(tmp_path / "m.keras")
    data = FakeSet(None)
    right = model.predict(data.images[:6].astype(np.float32), verbose=0).argmax(axis=1)
    results = evaluate_saved(
        str(tmp_path / "m.keras"),
        epsilon=8 / 255,
        data={"dataset": "mnist"},
        output=str(tmp_path / "out"),
        options=OPTIONS,
    )
    assert results["model"]["pixel_range"] == [0.0, 255.0]
    assert results["clean"]["value"] == pytest.approx((right == data.labels[:6]).mean())


def test_images_that_came_since_the_training_leave_no_one_to_be_judged_on_what_was_trained_on(
    tmp_path,
):
    photos = tmp_path / "photos"
    write_jpegs(photos, size=8)
    flags = ["--model=small_cnn", "--width=2", "--image_size=8", "--epsilon=0.1", "--epochs=1"]
    flags += ["--batch_size=4", "--guard=off", "--validation_images=2", "--evaluation_images=0"]
    data = f"--dataset=folder:{photos}"
    status, _, err = command("train.py", data, *flags, f"--runs_dir={tmp_path}", "--name=run")
    assert status == 0, err
    known = next(photos.glob("train/*/*.jpg"))
    (known.parent / "another.jpg").write_bytes(known.read_bytes())
    attack = ["--attacks=pgd", "--steps=1", "--images=2", "--nochecks"]
    model = f"--model={tmp_path / 'run'}"
    for script, more in (("evaluate.py", attack), ("certify.py", ["--draws=100"])):
        status, _, err = command(script, model, *more)
        assert status == 2
        assert "are not those that the run was trained with" in err
        assert "back as they were, or give images of their own with --dataset." in err
    (known.parent / "another.jpg").unlink()
    status, _, err = command("evaluate.py", model, *attack)
    assert status == 0, err


@pytest.mark.parametrize(
    ("begun", "said"),
    [
        (True, "What was finished is kept in {}: the same command with --resume goes on."),
        (False, "Interrupted before anything was finished: there is no {}."),
    ],
)
def test_whoever_interrupts_is_promised_only_what_is_there(begun, said, tmp_path, caplog):
    folder = tmp_path / "evaluation"
    if begun:
        folder.mkdir()
    with speaking_of_flags(), pytest.raises(KeyboardInterrupt), going_on_told(str(folder)):
        raise KeyboardInterrupt
    assert caplog.messages[-1].endswith(said.format(folder))


@pytest.mark.parametrize(("workers", "fitting"), [(1, 10), (2, 5)])
def test_images_that_memory_does_not_hold_are_refused_before_they_are_read(
    workers, fitting, monkeypatch
):
    test = ImageSet(np.zeros((20, 8, 8, 3), np.uint8), np.zeros(20, np.int32))
    data = types.SimpleNamespace(test=test, input_shape=(8, 8, 3))
    saved = Saved(loaded=None, epsilon=0.1, norm="linf", dataset=data)
    monkeypatch.setattr(memory, "available_bytes", lambda: 10 * 8 * 8 * 3 * 10 / memory.SHARE)
    assert len(saved.first_images(fitting, workers)) == fitting
    with pytest.raises(UserError, match=r"images=20 is too large .*20 images of 8 x 8 x 3.*fewer"):
        saved.first_images(1_000, workers)
