"""What a folder's checksums notice."""

import subprocess

import pytest

from pnil_tf.checksums import CHECKSUMS, compare_checksums, write_checksums
from pnil_tf.errors import UserError

NEEDED = ["graph", "variables/data"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables" / "data").write_bytes(b"\x00\xff")
    (tmp_path / "graph").write_text("y = x")
    (tmp_path / "card.md").write_text("A model.")
    write_checksums(tmp_path, skip=("card.md",))
    return tmp_path


def test_a_folder_as_it_was_written_passes(folder):
    compare_checksums(folder, NEEDED)
    (folder / "card.md").write_text("My model.")
    (folder / "more").touch()
    compare_checksums(folder, NEEDED)


def test_the_shell_reads_them(folder):
    answer = subprocess.run(["sha256sum", "--check", "--strict", CHECKSUMS], cwd=folder, text=True)
    assert answer.returncode == 0
    (folder / "graph").write_text("y = 2x")
    answer = subprocess.run(["sha256sum", "--check", "--strict", CHECKSUMS], cwd=folder, text=True)
    assert answer.returncode == 1


def test_changed_and_missing_files_are_named(folder):
    (folder / "graph").write_text("y = z")
    with pytest.raises(UserError, match=f"a graph that is not the one of {CHECKSUMS}"):
        compare_checksums(folder, NEEDED)
    (folder / "graph").unlink()
    with pytest.raises(UserError, match="no graph"):
        compare_checksums(folder, NEEDED)


def test_without_sums_nothing_is_compared(folder):
    (folder / CHECKSUMS).unlink()
    (folder / "graph").unlink()
    compare_checksums(folder, NEEDED)


def test_a_file_that_is_read_must_be_among_those_compared(folder):
    (folder / CHECKSUMS).write_text("")
    with pytest.raises(UserError, match="a variables/data that is not the one"):
        compare_checksums(folder, ["variables/data"])


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe",
        b"one word\n",
        b"abc  \x00\n",
        b"abc  ../../../etc/passwd\n",
        b"abc  " + b"x" * 5000,
        b"abc  x\n" * 2**18,
    ],
)
def test_damaged_sums_are_a_clear_error(folder, content):
    (folder / CHECKSUMS).write_bytes(content)
    with pytest.raises(UserError):
        compare_checksums(folder, NEEDED)
