"""Files that were cut short, or lost a bit, since they were written: they are never believed."""

import gzip
import random
import shutil

import keras
import numpy as np
import pytest
from command import assert_same, run
from idx_files import write_set
from tiny import EVALUATE, LAST_STEP, TRAIN, assert_one_error, digests

from pnil_tf.checksums import CHECKSUMS
from pnil_tf.data import DataSettings, idx, load
from pnil_tf.data.image_set import ImageSet
from pnil_tf.data.splits import content_sha256
from pnil_tf.errors import UserError
from pnil_tf.evaluation.store import Store
from pnil_tf.files import read_json, write_record
from pnil_tf.runs.load import load_model
from pnil_tf.serving.saved_model import CARD, export_saved_model
from pnil_tf.training.checkpoints import TrainingCheckpoints
from pnil_tf.training.model import AdversarialModel

pytestmark = pytest.mark.faults

FLIPS = 40


def flipped(content: bytes, generator: random.Random) -> bytes:
    """The content with one bit turned over."""
    damaged = bytearray(content)
    damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
    return bytes(damaged)


def damages(content: bytes, count: int = FLIPS):
    """Many ways to harm a file; the same in every run."""
    generator = random.Random(0)
    for _ in range(count):
        yield flipped(content, generator)
    for length in (0, 1, len(content) // 2, len(content) - 1):
        yield content[:length]


@pytest.fixture
def copied(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def unfinished(run_folder):
    """Takes a run back to where its last checkpoint had just been written."""
    record = read_json(run_folder / "run.json")
    write_record(run_folder / "run.json", {**record, "status": "unfinished"})
    (run_folder / "classifier.keras").unlink()


def resume(run_folder):
    return run(
        "train.py", "--resume", f"--runs_dir={run_folder.parent}", f"--name={run_folder.name}"
    )


def test_a_checkpoint_that_was_cut_short_is_passed_over(trained, copied):
    unfinished(copied)
    newest = copied / "checkpoints" / "last" / f"step-{LAST_STEP}.data-00000-of-00001"
    newest.write_bytes(newest.read_bytes()[:-1000])
    status, _, err = resume(copied)
    assert status == 0, err
    assert f"checkpoint step-{LAST_STEP} is damaged" in err
    assert "Going on after step 40" in err
    assert_same(trained, copied)


@pytest.mark.slow
def test_a_training_without_a_whole_checkpoint_begins_anew(trained, copied):
    unfinished(copied)
    for file in (copied / "checkpoints" / "last").glob("step-*.index"):
        file.write_bytes(file.read_bytes()[:10])
    status, _, err = resume(copied)
    assert status == 0, err
    assert f"checkpoint step-{LAST_STEP} is damaged" in err
    assert "the training starts from the beginning" in err
    assert_same(trained, copied)


@pytest.fixture
def checkpoints(tmp_path):
    """Checkpoints of a training that has saved its third step."""
    classifier = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten()])
    classifier.add(keras.layers.Dense(3))
    model = AdversarialModel(classifier, "fgsm", 0.1)
    model.compile("adam", "mse")
    found = TrainingCheckpoints(tmp_path / "last", model)
    found.save({"step": 3}, 3)
    return found, model.classifier


@pytest.mark.parametrize("suffix", [".index", ".data-00000-of-00001"])
def test_every_damage_of_a_checkpoint_is_noticed(checkpoints, tmp_path, suffix):
    found, classifier = checkpoints
    weights = classifier.get_weights()
    file = tmp_path / "last" / f"step-3{suffix}"
    noticed = 0
    for damaged in damages(file.read_bytes()):
        file.write_bytes(damaged)
        state = found.restore()
        noticed += state is None
        assert state in (None, {"step": 3})
        for one, other in zip(weights, classifier.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
    assert noticed > FLIPS / 2


def test_the_newest_checkpoint_stays_though_damaged_ones_are_of_later_steps(checkpoints, tmp_path):
    found, _ = checkpoints
    for step in (90, 95):
        found.save({"step": step}, step)
        index = tmp_path / "last" / f"step-{step}.index"
        index.write_bytes(index.read_bytes()[:10])
    assert found.restore() is None  # the training begins anew
    for step in (5, 10, 15):
        found.save({"step": step}, step)
        assert found.restore() == {"step": step}
    assert {path.stem.split(".")[0] for path in (tmp_path / "last").iterdir()} == {
        *("step-10", "step-15")
    }


@pytest.mark.slow
def test_a_damaged_kept_classifier_does_not_become_the_run_s(copied):
    unfinished(copied)
    kept = copied / "checkpoints" / "kept.keras"
    kept.write_bytes(flipped(kept.read_bytes(), random.Random(1)))
    status, _, err = resume(copied)
    assert status == 1, err
    assert_one_error(err)
    assert "damaged since it was written" in err
    assert not (copied / "classifier.keras").exists()


@pytest.mark.slow
def test_a_damaged_classifier_is_not_evaluated(copied, tmp_path):
    file = copied / "classifier.keras"
    file.write_bytes(flipped(file.read_bytes(), random.Random(2)))
    status, _, err = run(
        "evaluate.py", f"--model={copied}", f"--output={tmp_path / 'out'}", *EVALUATE
    )
    assert status == 2, err
    assert_one_error(err)
    assert "its sha256 is" in err
    assert not (tmp_path / "out").exists()


def test_every_damage_of_a_classifier_is_noticed(copied):
    file = copied / "classifier.keras"
    for damaged in damages(file.read_bytes()):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged or replaced"):
            load_model(copied)


def test_a_file_without_a_run_is_refused_or_unharmed(trained, tmp_path):
    whole, file = trained / "classifier.keras", tmp_path / "mine.keras"
    weights = load_model(whole).model.get_weights()
    for damaged in damages(whole.read_bytes(), 20):
        file.write_bytes(damaged)
        try:
            found = load_model(file).model.get_weights()
        except UserError:
            continue
        for one, other in zip(weights, found, strict=True):
            np.testing.assert_array_equal(one, other)


def test_every_damage_of_a_saved_model_is_noticed(trained, tmp_path):
    served = export_saved_model(load_model(trained).model, tmp_path / "served")
    load_model(served)
    files = [file for file in served.rglob("*") if file.is_file()]
    assert len(files) == 9
    for file in (file for file in files if file.name != CARD):
        whole = file.read_bytes()
        for damaged in damages(whole, 10):
            if file.name == CHECKSUMS and damaged == whole[:-1]:  # the last line's end
                continue
            file.write_bytes(damaged)
            with pytest.raises(UserError):
                load_model(served)
        file.write_bytes(whole)


@pytest.mark.parametrize("name", ["run.json", "results.json"])
def test_every_damage_of_a_record_is_noticed(trained, evaluated, tmp_path, name):
    whole = {"run.json": trained, "results.json": evaluated}[name] / name
    said, file = read_json(whole), tmp_path / name
    for damaged in damages(whole.read_bytes()):
        file.write_bytes(damaged)
        try:
            found = read_json(file)
        except UserError:
            continue
        found.pop("sha256", None)
        # A bit of white space, or of the name of the checksum itself.
        assert {key: found.get(key) for key in said} == said


def test_damaged_results_are_not_reported_as_results(trained, evaluated, tmp_path):
    output = shutil.copytree(evaluated, tmp_path / "out")
    arguments = ("evaluate.py", f"--model={trained}", f"--output={output}", *EVALUATE, "--resume")
    arrays = output / "arrays.npz"
    content = arrays.read_bytes()
    arrays.write_bytes(flipped(content, random.Random(3)))
    before = digests(output)
    status, out, err = run(*arguments)
    assert (status, out) == (2, ""), err
    assert_one_error(err)
    assert "arrays.npz is missing, or was damaged" in err
    assert digests(output) == before


def test_every_damage_of_a_piece_is_noticed(tmp_path):
    store = Store(tmp_path / "state", {"settings": 1}, resume=False)
    true = np.arange(1000).reshape(20, 50)
    store.once("piece", lambda: {"votes": true})
    file = tmp_path / "state" / "piece.npz"
    for damaged in damages(file.read_bytes()):
        file.write_bytes(damaged)
        found = store.once("piece", lambda: {"votes": true + 1})
        np.testing.assert_array_equal(found["votes"], true + 1)


def test_every_damage_of_zipped_images_is_noticed(tmp_path):
    write_set(tmp_path, zipped=True)
    whole = load(DataSettings("kmnist", data_dir=str(tmp_path), data_source="idx")).sha256
    file = tmp_path / "t10k-images-idx3-ubyte.gz"
    for damaged in damages(file.read_bytes()):
        file.write_bytes(damaged)
        try:
            found = load(DataSettings("kmnist", data_dir=str(tmp_path), data_source="idx"))
        except UserError:
            continue
        assert found.sha256 == whole  # a bit of the date, or of the operating system's name


def test_every_damage_of_published_images_is_noticed(tmp_path, monkeypatch):
    """The set is small, and taken for the published one; plain IDX files have no checksum."""
    settings = DataSettings("mnist", data_dir=str(tmp_path), data_source="idx")
    arrays = write_set(tmp_path)
    sets = [
        ImageSet(arrays[f"{stem}-images"][..., np.newaxis], arrays[f"{stem}-labels"].astype("i4"))
        for stem in ("train", "t10k")
    ]
    monkeypatch.setattr(idx, "PUBLISHED_COUNTS", tuple(map(len, sets)))
    monkeypatch.setattr(idx, "PUBLISHED_SHA256", {"mnist": content_sha256(*sets)})
    assert load(settings).source == "idx"
    for file in sorted(tmp_path.iterdir()):
        content = file.read_bytes()
        for damaged in damages(content, 10):
            file.write_bytes(damaged)
            with pytest.raises(UserError):
                load(settings)
        file.write_bytes(content)


@pytest.mark.slow
def test_a_run_does_not_go_on_with_damaged_images(copied, data_dir, tmp_path):
    unfinished(copied)
    data = shutil.copytree(data_dir, tmp_path / "data")
    file = data / "train-images-idx3-ubyte"
    file.write_bytes(flipped(file.read_bytes()[:-1], random.Random(4)) + b"\0")
    status, _, err = run(
        "train.py",
        "--resume",
        f"--runs_dir={copied.parent}",
        f"--name={copied.name}",
        f"--data_dir={data}",
    )
    assert status == 2, err
    assert_one_error(err)
    assert "other images" in err


def test_images_that_were_cut_short_are_refused(data_dir, tmp_path):
    data = shutil.copytree(data_dir, tmp_path / "data")
    for file in data.iterdir():
        content = file.read_bytes()
        file.unlink()
        (data / f"{file.name}.gz").write_bytes(gzip.compress(content)[:-20])
    status, _, err = run("train.py", *TRAIN, f"--data_dir={data}", f"--runs_dir={tmp_path / 'r'}")
    assert status == 2, err
    assert_one_error(err)
    assert "Fetch it again" in err
    assert not (tmp_path / "r").exists()
