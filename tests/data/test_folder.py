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
        (lambda root: write_folder(root, classes=["cat"]), "Received: cat"),
        (lambda root: write_image(root / "train" / "lost.png"), "Received: train"),
        (
            lambda root: [
                write_folder(root, splits=["train"]),
                write_folder(root, splits=["test"], classes=["cat", "cow", "emu"]),
            ],
            "classes in test/ that are not in train/: cow, emu",
        ),
        (
            lambda root: [write_folder(root), (root / "train/cat/3.png").write_bytes(b"no")],
            "cat/3.png is no readable",
        ),
    ],
)
def test_unusable_folders_are_refused(tmp_path, build, message):
    build(tmp_path)
    with pytest.raises(UserError, match=message):
        load(DataSettings(f"folder:{tmp_path}"))


def test_a_damaged_image_is_refused(tmp_path):
    write_folder(tmp_path, height=50, width=50)
    path = tmp_path / "train" / "cat" / "3.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UserError, match="cannot be read"):
        load(DataSettings(f"folder:{tmp_path}"))


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="There is no folder of images here"):
        load(DataSettings(f"folder:{tmp_path}/none"))
