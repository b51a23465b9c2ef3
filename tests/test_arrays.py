"""Arrays in files that are whole or absent, by one helper alone."""

import ast
from pathlib import Path

import numpy as np
import pytest

from pnil_tf.arrays import read_sealed, write_arrays

PACKAGE = Path(__file__).resolve().parent.parent / "pnil_tf"
ARRAYS = {"arr_0": np.arange(6.0).reshape(2, 3), "labels": np.array([1, 2])}


@pytest.mark.parametrize("compressed", [True, False])
def test_what_is_written_is_read(tmp_path, compressed):
    file = tmp_path / "a.npz"
    write_arrays(file, ARRAYS, compressed=compressed)
    with np.load(file, allow_pickle=False) as plain:
        assert {name: plain[name].tolist() for name in plain} == {
            name: array.tolist() for name, array in ARRAYS.items()
        }
    write_arrays(file, ARRAYS, sealed=True, compressed=compressed)
    found = read_sealed(file)
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)


def test_a_file_that_was_damaged_is_not_read(tmp_path):
    file = tmp_path / "a.npz"
    write_arrays(file, ARRAYS, sealed=True)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz does not match its checksum"):
        read_sealed(file)


def test_objects_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"[Oo]bject|allow_pickle"):
        write_arrays(tmp_path / "a.npz", {"a": np.array([{}], dtype=object)})
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["savez", "savez_compressed"])
def test_nothing_else_writes_several_arrays(name):
    """NumPy's own, before 2.1, leaves the archive open when the disk is full."""
    calling = [
        file.name
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == name
    ]
    assert calling == []
