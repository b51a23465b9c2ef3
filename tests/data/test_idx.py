import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from idx_files import encode, write_set

from pnil_tf.data import DataSettings, idx, load
from pnil_tf.errors import UserError


@given(
    array=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, max_side=5)),
    zipped=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_what_is_written_is_read_back(array, zipped, tmp_path_factory):
    path = tmp_path_factory.mktemp("idx") / ("a-idx-ubyte.gz" if zipped else "a-idx-ubyte")
    path.write_bytes(gzip.compress(encode(array)) if zipped else encode(array))
    np.testing.assert_array_equal(idx.read(path), array)


GOOD = encode(np.arange(12, dtype=np.uint8).reshape(3, 2, 2))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "starts with nothing"),
        (GOOD[:3], "starts with"),
        (b"\x01" + GOOD[1:], "starts with 01 00 08 03"),
        (GOOD[:2] + b"\x0d" + GOOD[3:], "starts with 00 00 0d 03"),
        (GOOD[:10], "its header of 16 bytes ends after 10"),
        (GOOD[:-1], "needs 12 bytes, it has 11"),
        (GOOD + b"\0", "needs 12 bytes, it has more"),
        (GOOD[:4] + b"\xff" * 8 + bytes(4), "is that of no array"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_a_broken_file_is_refused(tmp_path, content, reason, zipped):
    path = tmp_path / ("broken.gz" if zipped else "broken")
    path.write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(UserError, match=reason) as refused:
        idx.read(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("damage", ["cut", "flip", "plain"])
def test_a_broken_gzip_is_refused(tmp_path, damage):
    zipped = bytearray(gzip.compress(GOOD))
    if damage == "cut":
        zipped = zipped[: len(zipped) // 2]
    elif damage == "flip":
        zipped[-6] ^= 0xFF
    else:
        zipped = bytearray(GOOD)
    path = tmp_path / "broken.gz"
    path.write_bytes(zipped)
    with pytest.raises(UserError, match="cannot be read"):
        idx.read(path)


@pytest.mark.parametrize(
    ("name", "folder", "form"),
    [
        ("mnist", ".", {}),
        ("mnist", "mnist", {"zipped": True}),
        ("mnist", "MNIST/raw", {"separator": "."}),
        ("fashion_mnist", "fashion_mnist/raw", {}),
        ("fashion_mnist", "FashionMNIST/raw", {"zipped": True}),
    ],
)
def test_the_files_are_found(tmp_path, name, folder, form):
    arrays = write_set(tmp_path / folder, **form)
    found = load(DataSettings(name, data_dir=str(tmp_path), data_source="idx"))
    assert found.source == "idx"
    assert found.source_detail == "IDX files"
    assert found.counts == {"train": 60, "validation": 20, "test": 20}
    assert found.input_shape == (28, 28, 1)
    assert sorted(image.tobytes() for image in found.train.images) == sorted(
        image.tobytes() for image in arrays["train-images"]
    )


def test_debian_s_folder_serves_fashion_mnist_alone(tmp_path, monkeypatch):
    write_set(tmp_path / "debian")
    monkeypatch.setattr(idx, "DEBIAN_FOLDERS", {"fashion_mnist": tmp_path / "debian"})
    found = load(DataSettings("fashion_mnist", data_dir=str(tmp_path / "none"), data_source="idx"))
    assert found.source_detail == "IDX files of Debian's dataset-fashion-mnist"
    assert found.class_names[9] == "Ankle boot"
    with pytest.raises(UserError, match="no IDX files there"):
        load(DataSettings("mnist", data_dir=str(tmp_path / "none"), data_source="idx"))


def test_an_incomplete_set_is_refused(tmp_path):
    write_set(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError, match="has no t10k-labels file"):
        load(DataSettings("mnist", data_dir=str(tmp_path), data_source="idx"))


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    write_set(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(encode(np.zeros(7, np.uint8)))
    with pytest.raises(UserError, match="do not belong together"):
        load(DataSettings("mnist", data_dir=str(tmp_path), data_source="idx"))


def test_labels_beyond_the_classes_are_refused(tmp_path):
    write_set(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(encode(np.full(60, 10, np.uint8)))
    with pytest.raises(UserError, match="go up to 10"):
        load(DataSettings("mnist", data_dir=str(tmp_path), data_source="idx"))


def test_the_files_of_another_set_are_refused(tmp_path, monkeypatch):
    arrays = write_set(tmp_path)
    total = int(arrays["t10k-images"].sum(dtype=np.int64))
    monkeypatch.setattr(idx, "TEST_PIXEL_SUMS", {total: "fashion_mnist"})
    with pytest.raises(UserError, match="are those of 'fashion_mnist', not of 'mnist'"):
        load(DataSettings("mnist", data_dir=str(tmp_path), data_source="idx"))
    load(DataSettings("fashion_mnist", data_dir=str(tmp_path), data_source="idx"))


def test_other_names_have_no_idx_files(tmp_path):
    write_set(tmp_path)
    with pytest.raises(UserError, match="exist only for mnist"):
        load(DataSettings("cifar10", data_dir=str(tmp_path), data_source="idx"))


def test_the_same_images_from_another_source_are_the_same_data(tmp_path):
    arrays = write_set(tmp_path / "a")
    write_set(tmp_path / "b")
    order = np.random.RandomState(1).permutation(40)
    for stem in ("t10k-images", "t10k-labels"):
        array = arrays[stem][order]
        (tmp_path / "b" / f"{stem}-idx{array.ndim}-ubyte").write_bytes(encode(array))
    one, other = (
        load(DataSettings("mnist", data_dir=str(tmp_path / folder), data_source="idx"))
        for folder in "ab"
    )
    assert one.describe() == other.describe()


def test_a_size_is_kept_or_asked_for(tmp_path):
    write_set(tmp_path)
    settings = DataSettings("mnist", str(tmp_path), data_source="idx", image_size=(14, 20))
    assert load(settings).input_shape == (14, 20, 1)
