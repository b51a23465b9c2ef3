import logging
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from pnil_tf.data import DataSettings, load
from pnil_tf.errors import UserError


def write_image(path, height=8, width=6, channels=3, value=0, jpeg=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((height, width, channels), value, np.uint8)
    encoded = tf.io.encode_jpeg(image, quality=100) if jpeg else tf.io.encode_png(image)
    path.write_bytes(encoded.numpy())


def write_folder(root, splits=("train", "test"), classes=("cat", "dog"), n=10, **image):
    for number, split in enumerate(splits):
        for label, name in enumerate(classes):
            for i in range(n):
                write_image(
                    root / split / name / f"{i}.png", value=100 * label + i + 50 * number, **image
                )


def test_train_and_test_folders(tmp_path):
    write_folder(tmp_path)
    data = load(DataSettings(f"folder:{tmp_path}"))
    assert data.source == "folder"
    assert data.counts == {"train": 20, "validation": 10, "test": 10}
    assert data.class_names == ("cat", "dog")
    assert data.input_shape == (8, 6, 3)
    for images, label in zip(data.train.images, data.train.labels, strict=True):
        assert images.min() == images.max()
        assert images.max() // 100 == label
    assert (data.validation.labels == 0).sum() == 5


def test_class_folders_without_splits(tmp_path):
    write_folder(tmp_path, splits=["."], n=50)
    data = load(DataSettings(f"folder:{tmp_path}"))
    assert data.counts == {"train": 80, "validation": 10, "test": 10}
    pixels = [
        {(x.tobytes(), y) for x, y in zip(part.images, part.labels.tolist(), strict=True)}
        for part in (data.train, data.validation, data.test)
    ]
    assert len(set.union(*pixels)) == sum(map(len, pixels)) == 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cat", "dog"]


@pytest.mark.parametrize("jpeg", [False, True])
def test_grey_images_have_one_channel(tmp_path, jpeg):
    for name in ("a", "b"):
        for i in range(5):
            write_image(
                tmp_path / name / f"{i}.{'jpg' if jpeg else 'png'}", channels=1, value=77, jpeg=jpeg
            )
    data = load(DataSettings(f"folder:{tmp_path}"))
    assert data.input_shape == (8, 6, 1)
    assert (data.train.images == 77).all()


def test_one_colour_image_makes_all_of_them_colour(tmp_path):
    write_folder(tmp_path, channels=1)
    write_image(tmp_path / "train" / "cat" / "colour.png", channels=3)
    assert load(DataSettings(f"folder:{tmp_path}")).input_shape == (8, 6, 3)


def test_mixed_sizes_need_a_size(tmp_path):
    write_folder(tmp_path)
    write_image(tmp_path / "test" / "dog" / "large.PNG", height=20, width=30)
    with pytest.raises(UserError, match="from 8 x 6 to 20 x 30"):
        load(DataSettings(f"folder:{tmp_path}"))
    data = load(DataSettings(f"folder:{tmp_path}", image_size=(5, 4)))
    assert data.input_shape == (5, 4, 3)
    assert len(data.validation) + len(data.test) == 21


def test_a_path_is_named_as_it_was_given(tmp_path, monkeypatch):
    write_folder(tmp_path / "pets")
    monkeypatch.chdir(tmp_path)
    described = load(DataSettings("folder:pets")).describe()
    assert described["name"] == "folder:pets"
    assert str(tmp_path) not in str(described)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda root: None, "at least two class folders"),
        (lambda root: write_folder(root, classes=["cat"]), "Found: cat"),
        (lambda root: write_image(root / "train" / "lost.png"), "Found: train"),
        (
            lambda root: [
                write_folder(root, splits=["train"]),
                write_folder(root, splits=["test"], classes=["cat", "cow", "emu"]),
            ],
            "that have no training images: cow, emu",
        ),
        (
            lambda root: [write_folder(root), (root / "train/cat/3.png").write_bytes(b"no")],
            "train/cat/3.png is damaged",
        ),
        (lambda root: write_folder(root, splits=["test"]), "has test/ and no train/"),
        (
            lambda root: write_folder(root, splits=["train", "val", "validation"]),
            "two folders for its validation images: val and validation",
        ),
    ],
)
def test_unusable_folders_are_refused(tmp_path, build, message):
    build(tmp_path)
    with pytest.raises(UserError, match=message):
        load(DataSettings(f"folder:{tmp_path}"))


def test_a_damaged_image_is_named(tmp_path):
    write_folder(tmp_path, height=50, width=50)
    path = tmp_path / "train" / "cat" / "3.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UserError, match=r"train/cat/3\.png cannot be read: .*truncated"):
        load(DataSettings(f"folder:{tmp_path}"))


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="There is no folder of images at"):
        load(DataSettings(f"folder:{tmp_path}/none"))


def test_what_is_no_class_does_not_become_one(tmp_path, caplog):
    write_folder(tmp_path, splits=["."])
    write_image(tmp_path / ".ipynb_checkpoints" / "cat-checkpoint.png")
    write_image(tmp_path / "__MACOSX" / "0.png")
    write_image(tmp_path / "cat" / "._0.png")
    (tmp_path / "empty").mkdir()
    for name in ("photographs/1.heic", "notes/read.txt", "cat/Thumbs.db"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with caplog.at_level(logging.INFO):
        data = load(DataSettings(f"folder:{tmp_path}"))
    assert data.class_names == ("cat", "dog")
    assert sum(data.counts.values()) == 20
    assert data.describe()["left_out"] == [
        "hidden or of the system: .ipynb_checkpoints, __MACOSX, cat/._0.png",
        "folder without an image that is read: empty, notes, photographs",
        "of other kinds: 1 .db, 1 .txt, 1 .heic",
    ]
    assert "left out, of other kinds: 1 .db, 1 .txt, 1 .heic" in caplog.text


def test_what_was_found_is_said(tmp_path, caplog):
    write_folder(tmp_path, n=3)
    write_folder(tmp_path, splits=["train"], n=7, classes=["dog"])
    with caplog.at_level(logging.INFO):
        data = load(DataSettings(f"folder:{tmp_path}"))
    (record,) = [record for record in caplog.records if "Images:" in record.getMessage()]
    assert record.getMessage().splitlines()[1:] == [
        "  16 images of 8 x 6 x 3, 2 classes",
        "  class       train  validation        test",
        "  cat             3           1           2",
        "  dog             7           2           1",
        "  all            10           3           3",
        "  validation and test: a half of the test images each",
    ]
    described = data.describe()
    assert described["class_counts"] == {"train": [3, 7], "validation": [1, 2], "test": [2, 1]}
    assert described["splitting"] == "a half of the test images each"


@pytest.mark.parametrize("name", ["val", "valid", "validation", "VAL"])
def test_validation_images_beside_training_images_are_used(tmp_path, name):
    write_folder(tmp_path, splits=["train", "test", name], n=4)
    data = load(DataSettings(f"folder:{tmp_path}"))
    assert data.counts == {"train": 8, "validation": 8, "test": 8}
    assert sorted(data.validation.images[:, 0, 0, 0] % 100) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert data.splitting == "each its own, as they were found"


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_validation_images_alone_are_halved(tmp_path, name):
    write_folder(tmp_path, splits=["train", name])
    data = load(DataSettings(f"folder:{tmp_path}"))
    assert data.counts == {"train": 20, "validation": 10, "test": 10}
    assert "no test images" in data.splitting


def test_images_in_subfolders_count_for_their_class(tmp_path):
    write_folder(tmp_path, splits=["."])
    write_image(tmp_path / "cat" / "2019" / "may" / "1.png", value=9)
    data = load(DataSettings(f"folder:{tmp_path}"))
    assert sum(counts[0] for counts in data.class_counts.values()) == 11
    assert data.remarks == ("1 image in subfolders, counted for the class above",)


def test_links_back_into_the_folder_are_not_followed(tmp_path):
    root = tmp_path / "pets"
    write_folder(root, splits=["."])
    (root / "cat" / "all").symlink_to(root)
    (root / "cat" / "up").symlink_to(tmp_path)
    (root / "hound").symlink_to(root / "dog")
    (root / "cat" / "self").symlink_to(root / "cat" / "self")
    data = load(DataSettings(f"folder:{root}"))
    assert data.class_names == ("cat", "dog")
    assert sum(data.counts.values()) == 20
    assert "link to a folder that is read anyway: cat/all, cat/up, hound" in data.left_out


def test_links_to_images_elsewhere_are_followed(tmp_path):
    write_folder(tmp_path / "store", splits=["."])
    (tmp_path / "pets").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).symlink_to(tmp_path / "store" / name)
    (tmp_path / "store" / "cat" / "back").symlink_to(tmp_path / "store" / "cat")
    assert sum(load(DataSettings(f"folder:{tmp_path}/pets")).counts.values()) == 20


def test_each_of_many_empty_folders_is_read_once(tmp_path, monkeypatch):
    write_folder(tmp_path, splits=["."])
    for number in range(1_000):
        (tmp_path / f"empty{number:05}").mkdir()
    read = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: read.append(Path(folder)) or scan(folder))
    data = load(DataSettings(f"folder:{tmp_path}"))
    assert max(Counter(folder for folder in read if folder != tmp_path).values()) == 1
    assert data.class_names == ("cat", "dog")
    assert data.left_out == (
        "folder without an image that is read: empty00000, empty00001, empty00002, empty00003, "
        "empty00004, and 995 more",
    )


def test_names_that_are_not_utf8_are_read_and_told(tmp_path):
    write_folder(tmp_path, splits=["."])
    image = (tmp_path / "cat" / "0.png").read_bytes()
    for name in (b"caf\xe9.png", b"new\nline.png"):
        (tmp_path / "cat" / os.fsdecode(name)).write_bytes(image)
    (tmp_path / os.fsdecode(b"\xfc")).mkdir()
    data = load(DataSettings(f"folder:{tmp_path}"))
    assert sum(data.counts.values()) == 22
    assert data.left_out == ("folder without an image that is read: \\xfc",)
    (tmp_path / "cat" / os.fsdecode(b"caf\xe9.png")).write_bytes(image[:45])
    with pytest.raises(UserError, match=r"cat/caf\\xe9\.png cannot be read"):
        load(DataSettings(f"folder:{tmp_path}"))


def test_all_damaged_images_are_named_at_once(tmp_path):
    write_folder(tmp_path, splits=["."])
    for number in range(7):
        (tmp_path / "dog" / f"{number}.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"dog/0\.png is damaged.*dog/4\.png.*and 2 more"):
        load(DataSettings(f"folder:{tmp_path}"))
