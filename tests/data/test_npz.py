import os
import zipfile

import numpy as np
import pytest

from pnil_tf.contract.pixel_range import UNIT, PixelRange
from pnil_tf.data import DataSettings, load, memory
from pnil_tf.errors import UserError

Y = np.arange(40) % 2
X = (np.arange(40)[:, None, None] + np.arange(12).reshape(3, 4)).astype(np.uint8)  # 40 x 3 x 4


def read(tmp_path, pixel_range=None, **arrays):
    np.savez(tmp_path / "own.npz", **arrays)
    return load(DataSettings(f"npz:{tmp_path / 'own.npz'}"), PixelRange.of(pixel_range or UNIT))


def test_images_and_labels(tmp_path):
    data = read(tmp_path, x=X, y=Y)
    assert data.source == "npz"
    assert data.source_detail == "arrays in own.npz"
    assert data.class_names == ("0", "1")
    assert data.input_shape == (3, 4, 1)
    assert data.class_counts == {"train": [16, 16], "validation": [2, 2], "test": [2, 2]}
    assert data.splitting.startswith("a tenth of all images each, held out by class")
    for images in data.sets.values():
        assert ((images.images[:, 0, 0, 0] % 2) == images.labels).all()


def test_the_same_split_whatever_the_order(tmp_path):
    order = np.random.RandomState(0).permutation(40)
    first = read(tmp_path, x=X, y=Y)
    assert read(tmp_path, x=X[order], y=Y[order]).sha256 == first.sha256


def test_the_files_of_keras(tmp_path):
    data = read(tmp_path, x_train=X, y_train=Y[:, None], x_test=X[:20], y_test=Y[:20])
    assert data.counts == {"train": 40, "validation": 10, "test": 10}
    assert data.splitting == "a half of the test images each"


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_validation_arrays(tmp_path, name):
    part = {f"x_{name}": X[:6], f"y_{name}": Y[:6]}
    data = read(tmp_path, x_train=X, y_train=Y, x_test=X[:20], y_test=Y[:20], **part)
    assert data.counts == {"train": 40, "validation": 6, "test": 20}


def test_arrays_of_other_names_are_told(tmp_path):
    data = read(tmp_path, x=X, y=Y, names=np.array(["a", "b"]), z=Y)
    assert data.left_out == ("arrays of other names: names, z",)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("pixel_range", [None, (0.0, 1.0), (0.0, 255.0), (-1.0, 1.0)])
def test_floats_become_what_their_range_says(tmp_path, dtype, pixel_range):
    low, high = pixel_range or (0.0, 1.0)
    unit = X[..., None] / 51.0
    data = read(tmp_path, pixel_range, x=(low + unit * (high - low)).astype(dtype), y=Y)
    assert data.train.images.dtype == np.float32
    expected = np.sort(unit.reshape(40, -1).mean(1))
    found = np.concatenate([one.unit_images for one in data.sets.values()]).reshape(40, -1)
    tolerance = 1e-3 if dtype == "float16" else 1e-6
    assert np.abs(np.sort(found.mean(1)) - expected).max() < tolerance


def test_bytes_are_bytes_whatever_the_range(tmp_path):
    assert read(tmp_path, (0.0, 255.0), x=X, y=Y).sha256 == read(tmp_path, x=X, y=Y).sha256


def test_floats_of_bytes_train_as_the_bytes_do(tmp_path):
    from pnil_tf.data import batches

    streams = [read(tmp_path, x=x, y=Y).train for x in (X, X.astype(np.float32) / 255)]
    first, second = (
        np.sort(np.concatenate([x.numpy() for x, _ in batches(one, 7)]), axis=0) for one in streams
    )
    assert first.dtype == second.dtype == np.float32
    assert len(first) == len(second) == 32


def test_floats_can_be_resized(tmp_path):
    np.savez(tmp_path / "own.npz", x=X / 255, y=Y)
    data = load(DataSettings(f"npz:{tmp_path / 'own.npz'}", image_size=(6, 8)))
    assert data.input_shape == (6, 8, 1)
    assert data.train.images.dtype == np.float32


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, "has no array y"),
        ({"a": X, "b": Y}, "needs one array of images and one of labels.*Found: a, b"),
        ({"x": X, "y": Y, "x_train": X, "y_train": Y}, "needs one array of images"),
        ({"x": X, "y": Y, "y_test": Y}, "has no array x_test"),
        ({"x": X.reshape(40, 12), "y": Y}, r"of the shape \(n, height, width\)"),
        ({"x": np.zeros((40, 3, 32, 32)), "y": Y}, "channels first.*transpose"),
        ({"x": np.zeros((40, 4, 32, 32)), "y": Y}, "channels first.*transpose"),
        ({"x": X[:0], "y": Y[:0]}, "must hold images, and holds none"),
        ({"x": X.astype(int), "y": Y}, "holds int64.*astype"),
        ({"x": X > 3, "y": Y}, "holds bool"),
        ({"x": X.astype(float), "y": Y}, r"go from 0 to 50. Scale them"),
        ({"x": 4.0 * X, "y": Y}, r"go from 0 to 200.*Give pixel_range=.0, 255."),
        ({"x": X % 17, "y": Y}, r"npz:.*of the type uint8.*Received: 16 at most"),
        ({"x": X % 2, "y": Y % 2}, r"Received: 1 at most.*multiply all of them by 255"),
        ({"x": X / 25.0 - 1, "y": Y}, r"go from -1 to 1.*Give pixel_range=.-1, 1."),
        ({"x": np.where(X == 7, np.nan, 0.5), "y": Y}, "There is NaN or infinity among them"),
        ({"x": X, "y": Y[:9]}, "must hold 40 labels"),
        ({"x": X, "y": np.eye(2)[Y]}, r"one-hot, write y\.argmax"),
        (
            {"x": X, "y": np.where(Y, "cat", "dog")},
            "holds text, such as '(cat|dog)'. Number the cl",
        ),
        ({"x": X, "y": Y.astype(float)}, "holds float64"),
        ({"x": X, "y": Y - 1}, "go from -1 to 0"),
        ({"x": X, "y": Y + 1}, "numbered from 0 without a gap.*numbered 1 to 2"),
        ({"x": X, "y": Y * 10**6}, "without a gap"),
        ({"x": X, "y": Y * 0}, "at least two classes"),
        ({"x": X, "y": Y * 2**40}, "go from 0 to 1099511627776"),
        ({"x": X, "y": Y, "x_test": X, "y_test": Y + 1}, "x_test .*no training images: 2"),
        ({"x": X, "y": Y, "x_test": X[:, :2], "y_test": Y}, "of the splits .* differ"),
        ({"x": X, "y": Y, "x_test": X / 255, "y_test": Y}, "of the splits .* differ"),
        ({"x": np.array([{}] * 40, object), "y": Y}, "cannot be read.*allow_pickle=False"),
    ],
)
def test_other_arrays_are_refused(tmp_path, arrays, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, **arrays)


def test_a_range_that_makes_every_image_black_is_refused(tmp_path):
    with pytest.raises(UserError, match="every image would be black"):
        read(tmp_path, (0.0, 255.0), x=X / 255, y=Y)


def test_pickles_are_not_opened(tmp_path):
    class Intruder:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was_here"),)

    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path, x=np.array([Intruder()] * 40, object), y=Y)
    assert not (tmp_path / "was_here").exists()


def test_files_that_are_no_archive_are_refused(tmp_path):
    path = tmp_path / "own.npz"
    settings = DataSettings(f"npz:{path}")
    with pytest.raises(UserError, match="There is no file"):
        load(settings)
    np.savez(path, x=X, y=Y)
    whole = path.read_bytes()
    for content in (b"", b"x", whole[:-30], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="cannot be read"):
            load(settings)
    at = whole.index(X.tobytes())
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(UserError, match="cannot be read: Bad CRC"):
        load(settings)


@pytest.mark.timeout(60)
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "own.npz")
    with pytest.raises(UserError, match="There is no file"):
        load(DataSettings(f"npz:{tmp_path / 'own.npz'}"))


def test_a_vast_array_in_a_small_file_is_not_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "own.npz"
    np.savez_compressed(path, x=np.zeros((2000, 64, 64), np.uint8), y=np.arange(2000) % 2)
    assert path.stat().st_size < 2**16
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**22)
    with pytest.raises(UserError, match="too large for this machine's memory"):
        load(DataSettings(f"npz:{path}"))


def test_an_array_that_claims_more_than_there_is_is_refused(tmp_path):
    path = tmp_path / "own.npz"
    header = str({"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**4, 10**4)})
    array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + b"x"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", array)
        archive.writestr("y.npy", array)
    with pytest.raises(UserError, match="cannot be read"):
        load(DataSettings(f"npz:{path}"))
