"""Images, labels and IDX files: taken, or refused with one sentence."""

import gzip
import io
import os
import shutil
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from fuzzing import SIZES, Arena, ReachedTheWorkError, damaged_bytes, fuzz
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pnil_tf.data import DataSettings, idx, jpeg, load
from pnil_tf.data.image_set import ImageSet
from pnil_tf.errors import UserError
from pnil_tf.evaluation import runner
from pnil_tf.evaluation.settings import EvaluationSettings

IDX = struct.pack(">HBB3I", 0, 8, 3, 3, 2, 2) + bytes(range(12))
RANK_255 = struct.pack(">HBB255I", 0, 8, 255, *[1] * 255) + b"x"
HUGE = struct.pack(">HBB3I", 0, 8, 3, *[2**32 - 1] * 3) + bytes(12)


def png(height, width, colour=2, rows=None):
    """A PNG file by hand, so that its header can claim anything."""

    def chunk(kind, content):
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">2I5B", width, height, 8, colour, 0, 0, 0)
    pixels = zlib.compress(rows if rows is not None else bytes(height * (1 + 3 * width)))
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


GOOD_PNG = png(4, 3)
GOOD_JPEG = tf.io.encode_jpeg(np.full((4, 3, 3), 99, np.uint8)).numpy()


@pytest.mark.parametrize("many", SIZES)
def test_idx_files(many, tmp_path):
    def check(case):
        content, zipped = case
        path = tmp_path / ("images.gz" if zipped else "images")
        path.write_bytes(content)
        assert idx.read(path).dtype == np.uint8

    wholes = [IDX, gzip.compress(IDX), RANK_255, HUGE, gzip.compress(HUGE)]
    fuzz(many, st.tuples(damaged_bytes(*wholes), st.booleans()), check, 150, 5000)


def test_a_vast_idx_file_in_a_small_archive_is_not_unpacked(tmp_path, monkeypatch):
    header = struct.pack(">HBB3I", 0, 8, 3, 1, 2, 2)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(header + bytes(2**26)))
    read = []
    plain = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, n=-1: read.append(n) or plain(self, n))
    with pytest.raises(UserError, match="has more"):
        idx.read(path)
    assert -1 not in read
    assert sum(read) < 100


@pytest.mark.parametrize("many", SIZES)
def test_the_quality_of_jpeg_files(many):
    def check(content):
        found = jpeg.quality(content)
        assert found is None or -1000 < found <= 100_000

    fuzz(many, damaged_bytes(GOOD_JPEG), check, 100, 4000)


def lay_out(root, contents):
    for number, content in enumerate(contents):
        folder = root / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number // 2}.png").write_bytes(content)


@pytest.mark.parametrize("many", SIZES)
def test_folders_of_images(many, tmp_path):
    number = iter(range(10**6))

    def check(case):
        contents, size = case
        arena = Arena(tmp_path / str(next(number)))
        lay_out(arena.inside, [GOOD_PNG] * 18 + contents)
        before = {path: path.stat().st_mtime_ns for path in arena.inside.rglob("*")}
        try:
            data = load(DataSettings(f"folder:{arena.inside}", image_size=size))
            assert data.input_shape[:2] == size or size is None
        finally:
            arena.assert_untouched()
            assert {path: path.stat().st_mtime_ns for path in arena.inside.rglob("*")} == before

    odd = [png(0, 3), png(4, 0), png(2**31 - 1, 2**31 - 1, rows=b""), png(9, 9, rows=b"x"), b""]
    images = damaged_bytes(GOOD_PNG, GOOD_JPEG, png(4, 3, 0), *odd)
    cases = st.tuples(
        st.lists(images, min_size=1, max_size=2), st.sampled_from([None, (4, 3), (5, 5)])
    )
    fuzz(many, cases, check, 10, 150)


def test_an_image_that_is_vast_when_decoded_is_refused(tmp_path):
    lay_out(tmp_path, [GOOD_PNG] * 18 + [png(2**20, 2**20, rows=b"")])
    with pytest.raises(UserError, match=r"pixels of cat/9\.png \(1048576 x 1048576\) need"):
        load(DataSettings(f"folder:{tmp_path}", image_size=(4, 4)))


@pytest.mark.timeout(60)
def test_a_pipe_is_not_waited_for(tmp_path):
    lay_out(tmp_path, [GOOD_PNG] * 18)
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    with pytest.raises(UserError, match=r"cat/pipe\.png is no file"):
        load(DataSettings(f"folder:{tmp_path}"))


@pytest.mark.parametrize("name", ["a\nb", os.fsdecode(b"\xff")])
def test_a_class_that_cannot_be_shown_is_refused(name, tmp_path):
    lay_out(tmp_path, [GOOD_PNG] * 18)
    (tmp_path / "cat").rename(tmp_path / name)
    with pytest.raises(UserError, match="cannot be shown"):
        load(DataSettings(f"folder:{tmp_path}"))


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize("many", SIZES)
def test_files_of_arrays(many, tmp_path):
    x, y = np.arange(160, dtype=np.uint8).reshape(40, 2, 2), np.arange(40) % 2
    path = tmp_path / "own.npz"

    def check(content):
        path.write_bytes(content)
        data = load(DataSettings(f"npz:{path}"))
        assert sum(data.counts.values()) <= 120

    wholes = [npz(x=x, y=y), npz(x_train=x / 255, y_train=y, x_test=x / 255, y_test=y)]
    fuzz(many, damaged_bytes(*wholes), check, 50, 3000)


DTYPES = st.sampled_from(
    ["u1", "i4", "i8", "u8", "f2", "f4", "f8", "c8", "?", "O", "U3", "M8[s]", "m8[s]", "S2", "V4"]
)


def arrays(shapes):
    def filled(dtype, shape):
        if dtype in ("O", "V4"):
            return st.just(np.zeros(shape, dtype))
        return hnp.arrays(dtype, shape)

    return st.tuples(DTYPES, shapes).flatmap(lambda case: filled(*case))


IMAGES = st.one_of(
    arrays(hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=3)),
    hnp.arrays("f4", (3, 2, 2, 1), elements=st.floats(width=32)),
    hnp.arrays("f4", (3, 2, 2, 1), elements=st.floats(0, 1, width=32)),
    hnp.arrays("u1", (3, 2, 2, 1)),
)
LABELS = st.one_of(
    arrays(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=4)),
    hnp.arrays("i8", (3,), elements=st.integers(-(2**63), 2**63 - 1)),
    hnp.arrays("i4", (3,), elements=st.integers(0, 3)),
    hnp.arrays("u8", (3,), elements=st.integers(2**63, 2**64 - 1)),
)


@pytest.mark.parametrize("many", SIZES)
def test_arrays_of_images_and_labels(many, tmp_path, monkeypatch):
    def begin(*arguments):
        raise ReachedTheWorkError

    def model(images):
        return np.asarray(images).reshape(len(images), -1)[:, :3] - 1.0

    monkeypatch.setattr(runner, "Store", begin)
    settings = EvaluationSettings(epsilon=0.1, attacks=("noise",), images=3, checks=False)
    taken = []

    def check(case):
        images, labels = case
        try:
            runner.evaluate(model, images, labels, settings, tmp_path / "results")
        except ReachedTheWorkError:
            shutil.rmtree(tmp_path / "results")
            taken.append(case)
            assert images.dtype.kind in "uif?"
            assert images.shape[0] == len(labels) == 3
            assert labels.min() >= 0
            assert labels.max() < 3
        finally:
            assert not list(tmp_path.iterdir())

    fuzz(many, st.tuples(IMAGES, LABELS), check, 100, 4000)
    assert taken


@pytest.mark.parametrize("many", SIZES)
def test_image_sets(many):
    def check(case):
        found = ImageSet(*case)
        assert 0 <= found.unit_images.min(initial=0) <= found.unit_images.max(initial=0) <= 1
        assert not len(found) or found.labels.min() >= 0

    fuzz(many, st.tuples(IMAGES, LABELS), check, 100, 4000)
