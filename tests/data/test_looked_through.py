"""A file that has been looked at is not decoded again to begin, and no change of it is missed."""

import os
from pathlib import Path

import numpy as np
import pytest
from jpeg_folder import write_jpegs
from PIL import Image

from pnil_tf.data import DataSettings, load, looked_through, pictures
from pnil_tf.data.image_files import Reader
from pnil_tf.errors import UserError
from pnil_tf.runs.continuation import check_images


@pytest.fixture(autouse=True)
def memories(monkeypatch, tmp_path_factory):
    """A place for them, which takes files that were written a moment ago."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    monkeypatch.setattr(looked_through, "_SETTLED_NS", -1)
    return home / "pnil_tf" / "images"


@pytest.fixture
def decoded(monkeypatch):
    """The files that are decoded, by their names."""
    names, decode = [], pictures.decode

    def counted(path):
        names.append("/".join(path.parts[-3:]))
        return decode(path)

    monkeypatch.setattr(pictures, "decode", counted)
    return names


def loaded(folder, data_in_memory="false", **settings):
    return load(
        DataSettings(
            f"folder:{folder}", image_size=(16, 12), data_in_memory=data_in_memory, **settings
        )
    )


def test_a_start_decodes_every_file_once_and_the_next_one_none(tmp_path, decoded):
    write_jpegs(tmp_path)
    clear = np.full((16, 16, 4), 99, np.uint8)
    clear[:8, :, 3] = 40
    Image.fromarray(clear).save(tmp_path / "train/cat/clear.png")
    first = loaded(tmp_path)
    described = first.describe()
    assert len(decoded) == len(set(decoded)) == 37
    decoded.clear()
    again = loaded(tmp_path)
    assert again.describe() == described
    assert decoded == []
    assert any("transparent" in remark for remark in again.remarks)
    np.testing.assert_array_equal(first.test.unit_images, again.test.unit_images)


def test_the_fingerprint_of_a_folder_is_that_of_memory_and_reads_nothing(tmp_path, monkeypatch):
    write_jpegs(tmp_path)
    in_memory, in_files = loaded(tmp_path, "true"), loaded(tmp_path)
    assert in_memory.sha256_of_pixels == in_files.sha256_of_pixels
    monkeypatch.setattr(Reader, "images", None)
    assert in_memory.sha256 == in_files.sha256


def test_a_run_whose_record_has_the_fingerprint_of_the_pixels_goes_on(tmp_path):
    data = loaded(write_jpegs(tmp_path))
    record = {"data": data.describe(), "data_source": "folder"}
    record["data"]["sha256"] = data.sha256_of_pixels
    check_images(record, data)
    record["data"]["sha256"] = "of others"
    # Nothing else can be said of where a folder is.
    with pytest.raises(
        UserError, match=r"begun with other .* Bring the first ones back as they were\.$"
    ):
        check_images(record, data)


def test_a_file_that_has_changed_is_decoded_again(tmp_path, decoded):
    write_jpegs(tmp_path)
    before = loaded(tmp_path)
    file = tmp_path / "train/dog/4.jpg"
    times = file.stat()
    Image.fromarray(np.full((16, 16, 3), 77, np.uint8)).save(file)
    # As a copy that keeps the times would look, of the same size by chance.
    with file.open("ab") as end:
        end.write(b"\0" * (times.st_size - file.stat().st_size))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    decoded.clear()
    after = loaded(tmp_path)
    assert decoded == ["train/dog/4.jpg"]
    assert after.sha256 == loaded(tmp_path, "true").sha256 != before.sha256


def test_a_file_that_may_still_be_written_is_not_relied_on(tmp_path, decoded, monkeypatch):
    write_jpegs(tmp_path)
    monkeypatch.setattr(looked_through, "_SETTLED_NS", 10**12)
    for _ in range(2):
        decoded.clear()
        loaded(tmp_path)
        assert len(decoded) == 36


@pytest.mark.parametrize("skip", [False, True])
def test_a_damaged_file_is_named_at_every_start(tmp_path, skip):
    write_jpegs(tmp_path)
    whole = (tmp_path / "train/cat/0.jpg").read_bytes()
    (tmp_path / "train/cat/half.jpg").write_bytes(whole[:400])
    for _ in range(2):
        if skip:
            assert "half.jpg" in loaded(tmp_path, skip_damaged=True).left_out[0]
        else:
            with pytest.raises(UserError, match=r"half\.jpg cannot be read"):
                loaded(tmp_path)


def test_classes_that_come_in_between_change_the_digests_of_those_behind(tmp_path):
    write_jpegs(tmp_path)
    loaded(tmp_path)
    write_jpegs(tmp_path, classes=("bear", "cow"), seed=1)
    assert loaded(tmp_path).sha256 == loaded(tmp_path, "true").sha256


@pytest.mark.parametrize("harm", ["no place", "damaged"])
def test_without_its_memory_a_start_only_takes_longer(tmp_path, decoded, memories, harm):
    write_jpegs(tmp_path)
    if harm == "no place":
        memories.parent.mkdir(parents=True)
        memories.write_text("in the way")
    before = loaded(tmp_path).sha256
    if harm == "damaged":
        (file,) = memories.iterdir()
        file.write_bytes(file.read_bytes()[:-40])
    decoded.clear()
    assert loaded(tmp_path).sha256 == before
    assert len(decoded) == 36


def test_folders_of_long_ago_are_forgotten(tmp_path, memories, monkeypatch):
    monkeypatch.setattr(looked_through, "_MOST", 2)
    for number in range(3):
        loaded(write_jpegs(tmp_path / str(number)))
    assert len(list(memories.iterdir())) == 2


def test_who_has_no_home_goes_without(tmp_path, decoded, monkeypatch):
    def homeless(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "expanduser", homeless)
    assert looked_through.LookedThrough(tmp_path, (8, 8, 1)).find(tmp_path / "none", 0) is None
