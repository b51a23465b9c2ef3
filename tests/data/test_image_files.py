"""Images that are read from their files are those that memory would hold, in the same order."""

import gc
import itertools
import logging
import re
import warnings

import numpy as np
import pytest
import tensorflow as tf
from jpeg_folder import write_jpegs

from pnil_tf.data import DataSettings, batches, load, memory, training_stream
from pnil_tf.data import grain_stream as grain_stream_module
from pnil_tf.data.image_files import THREADS, ImageFiles
from pnil_tf.data.image_set import ImageSet
from pnil_tf.data.resizing import resize
from pnil_tf.errors import RunFailedError, UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_jpegs(tmp_path_factory.mktemp("jpegs"))


def loaded(folder, data_in_memory, **settings):
    return load(
        DataSettings(
            f"folder:{folder}", image_size=(16, 12), data_in_memory=data_in_memory, **settings
        )
    )


@pytest.fixture(scope="module")
def both(folder):
    return loaded(folder, "true"), loaded(folder, "false")


def assert_same_batches(one, other, steps=None):
    pairs = itertools.islice(
        zip(one.as_numpy_iterator(), other.as_numpy_iterator(), strict=steps is None), steps
    )
    count = 0
    for (x, y), (x_other, y_other) in pairs:
        assert x.dtype == x_other.dtype == np.float32
        np.testing.assert_array_equal(x, x_other)
        np.testing.assert_array_equal(y, y_other)
        count += 1
    assert count == steps or steps is None


def test_they_are_the_same_data(both):
    in_memory, in_files = both
    assert isinstance(in_memory.train, ImageSet)
    assert isinstance(in_files.train, ImageFiles)
    assert in_memory.sha256 == in_files.sha256
    said, also = in_memory.describe(), in_files.describe()
    assert also.pop("remarks")[-1].startswith("images are read from their files")
    assert said.pop("remarks") == []
    assert said == also
    for name in in_memory.sets:
        one, other = in_memory.sets[name], in_files.sets[name]
        assert len(one) == len(other)
        assert one.shape == other.shape
        np.testing.assert_array_equal(one.unit_images, other.unit_images)
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.take(3).unit_images, other.take(3).unit_images)
        picked = [2, 0, 2]
        np.testing.assert_array_equal(
            one.select(picked).unit_images, other.select(picked).unit_images
        )


@pytest.mark.parametrize("start", [0, 1, 4, 7])
def test_training_batches_are_the_same_from_any_step(both, start):
    streams = [training_stream(data.train, 7, seed=3, start_step=start) for data in both]
    assert streams[0].element_spec == streams[1].element_spec
    assert streams[1].cardinality() == tf.data.INFINITE_CARDINALITY
    assert_same_batches(*streams, steps=8)


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("batch", [3, 4, 6])
def test_finite_batches_are_the_same(both, batch, drop):
    streams = [batches(data.validation, batch, drop_remainder=drop) for data in both]
    assert streams[0].cardinality() == streams[1].cardinality()
    assert_same_batches(*streams)


def test_a_split_of_its_own_and_a_fold_are_the_same(tmp_path):
    write_jpegs(tmp_path, test=0)
    (tmp_path / "test").rename(tmp_path / "spare")
    one, other = (
        loaded(tmp_path / "train", asked, repeat=1, fold=1) for asked in ("true", "false")
    )
    assert one.sha256 == other.sha256
    assert one.splitting == other.splitting


def test_grey_files_among_coloured_ones(tmp_path):
    from PIL import Image

    write_jpegs(tmp_path)
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "train" / "cat" / "grey.png")
    one, other = (loaded(tmp_path, asked) for asked in ("true", "false"))
    assert other.input_shape == (16, 12, 3)
    assert one.sha256 == other.sha256


def test_auto_holds_what_fits_and_reads_what_does_not(folder, monkeypatch):
    assert isinstance(loaded(folder, "auto").train, ImageSet)
    needed = memory.COPIES * 36 * 16 * 12 * 3
    monkeypatch.setattr(memory, "available_bytes", lambda: needed)
    monkeypatch.setattr("pnil_tf.data.folder.DECODED_BYTES", 1)
    assert isinstance(loaded(folder, "auto").train, ImageFiles)
    with pytest.raises(UserError, match=r"too large .*let data_in_memory='auto' read them"):
        loaded(folder, "true")


def test_without_grain_one_sentence_says_what_to_install(folder, monkeypatch):
    monkeypatch.setattr(grain_stream_module, "grain_is_there", lambda: False)
    with pytest.raises(UserError, match=r"pip install 'pnil_tf\[streaming\]'"):
        loaded(folder, "false")
    monkeypatch.setattr("pnil_tf.data.folder.DECODED_BYTES", 1)
    monkeypatch.setattr(memory, "available_bytes", lambda: 20_000)
    with pytest.raises(UserError, match=r"too large .*pip install 'pnil_tf\[streaming\]'"):
        loaded(folder, "auto")


@pytest.mark.parametrize("asked", ["true", "false"])
def test_damaged_files_are_refused_and_left_out_if_asked(tmp_path, asked):
    write_jpegs(tmp_path)
    whole = loaded(tmp_path, asked)
    first, second = tmp_path / "train/cat/0.jpg", tmp_path / "test/dog/1.jpg"
    (tmp_path / "train/cat/a copy.jpg").write_bytes(first.read_bytes()[:300])
    (tmp_path / "test/dog/text.jpg").write_text("no image")
    with pytest.raises(UserError, match=r"text\.jpg .*a copy\.jpg .*skip_damaged=True"):
        loaded(tmp_path, asked)
    skipped = loaded(tmp_path, asked, skip_damaged=True)
    assert skipped.sha256 == whole.sha256
    assert skipped.left_out == (
        "image that cannot be used: test/dog/text.jpg, train/cat/a copy.jpg",
    )
    for path in (first, second):
        path.write_bytes(b"")
    assert len(loaded(tmp_path, asked, skip_damaged=True).train) == len(whole.train) - 1
    for path in (tmp_path / "train/cat").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match="without any training image that can be used: cat"):
        loaded(tmp_path, asked, skip_damaged=True)


@pytest.mark.parametrize("content", [b"no image", None])
@pytest.mark.parametrize("asked", ["true", "false"])
def test_a_split_of_nothing_but_damaged_files_is_named(tmp_path, asked, content):
    write_jpegs(tmp_path)
    for name in ("cat", "dog"):
        (tmp_path / "val" / name).mkdir(parents=True)
        whole = (tmp_path / "train" / name / "0.jpg").read_bytes()
        (tmp_path / "val" / name / "0.jpg").write_bytes(content or whole[:400])
    with pytest.raises(UserError, match="has no validation image that can be used"):
        loaded(tmp_path, asked, skip_damaged=True)


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda path: path.unlink(), "is no file"),
        (lambda path: path.write_bytes(path.read_bytes()[:400]), "cannot be read"),
        (
            lambda path: path.write_bytes(next(path.parent.glob("3.jpg")).read_bytes()),
            "is no longer",
        ),
    ],
)
def test_a_file_that_changes_meanwhile_is_named(tmp_path, harm, why):
    data = loaded(write_jpegs(tmp_path), "false")
    harm(tmp_path / "train/dog/2.jpg")
    with pytest.raises(RunFailedError, match=f"train/dog/2.jpg {why}"):
        data.train.unit_images  # noqa: B018
    assert data.failure is not None
    with pytest.raises(tf.errors.OpError):
        list(training_stream(data.train, 8, seed=0).take(4))


@pytest.mark.parametrize(("available", "threads"), [(None, THREADS), (2**40, THREADS), (2**18, 1)])
def test_as_many_are_decoded_at_once_as_memory_lets(folder, available, threads, monkeypatch):
    both = loaded(folder, "false").train
    monkeypatch.setattr(memory, "available_bytes", lambda: available)
    files = loaded(folder, "false").train
    assert files.reader.threads == threads
    assert_same_batches(training_stream(files, 7, 3), training_stream(both, 7, 3), 4)
    assert np.array_equal(files.rows(slice(None)).images, both.rows(slice(None)).images)


def test_streams_that_overlap_put_the_limits_of_pillow_back(folder):
    from PIL import Image

    limit = Image.MAX_IMAGE_PIXELS
    stream = training_stream(loaded(folder, "false").train, 8, seed=0)
    one, other = iter(stream), iter(stream)
    next(one), next(other)
    del one
    next(other)
    del other
    list(stream.take(1))
    assert limit == Image.MAX_IMAGE_PIXELS


def test_an_open_stream_leaves_the_warnings_of_others_alone(folder):
    stream = training_stream(loaded(folder, "false").train, 8, seed=0)
    filters = list(warnings.filters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = iter(stream)
        next(opened)
        with pytest.raises(UserWarning, match="mine"):
            warnings.warn("mine", UserWarning, stacklevel=1)
        # An image is as good as it is, however strictly warnings are taken.
        warnings.warn_explicit("metadata", UserWarning, "x.py", 1, module="PIL.Image")
    assert warnings.filters == filters
    del opened
    gc.collect()
    assert warnings.filters == filters


def test_files_are_resized_on_the_cpu():
    with tf.Graph().as_default(), tf.device("GPU:0"):
        resized = resize(tf.zeros((1, 4, 4, 3), tf.uint8), (2, 2))
    assert resized.op.device == "/device:CPU:0"


def test_streaming_is_of_folders_and_prepared_sets():
    with pytest.raises(UserError, match=r"is about a folder of images\. Received: dataset='mnist'"):
        DataSettings("mnist", skip_damaged=True)
    for settings in ({"dataset": "npz:x"}, {"dataset": "mnist", "data_source": "idx"}):
        with pytest.raises(UserError, match="that TensorFlow Datasets has prepared"):
            DataSettings(**settings, data_in_memory="false")
    with pytest.raises(UserError, match=re.escape("must be one of auto, true, false")):
        DataSettings("folder:x", data_in_memory="maybe")


def test_the_summary_says_that_files_are_read(folder, caplog):
    with caplog.at_level(logging.INFO):
        loaded(folder, "false")
    assert "read from their files whenever they are needed" in caplog.text
