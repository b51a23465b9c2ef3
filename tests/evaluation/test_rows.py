"""Rows put together are those of one array, wherever they lie."""

import os

import numpy as np
import pytest

from pnil_tf.evaluation import rows
from pnil_tf.evaluation.rows import Rows

PARTS = [np.random.default_rng(i).random((i, 3, 2)).astype(np.float32) for i in (2, 4, 0, 1)]


@pytest.fixture(params=[0, 100, 2**24], ids=["in a file", "in a file from the second", "held"])
def most_bytes(request, monkeypatch):
    monkeypatch.setattr(rows, "_MOST_BYTES", request.param)
    return request.param


def together(folder, parts):
    found = Rows(folder)
    for part in parts:
        found.add(part)
    return found.together()


def test_all_rows_are_there_in_their_order(most_bytes, tmp_path):
    found = together(tmp_path, PARTS)
    np.testing.assert_array_equal(found, np.concatenate(PARTS))
    assert found.dtype == np.float32
    assert isinstance(found, np.memmap) == (most_bytes < 2**24)


def test_no_row_at_all(most_bytes, tmp_path):
    assert together(tmp_path, [PARTS[0][:0]]).shape == (0, 3, 2)


def test_nothing_stays_in_the_folder(most_bytes, tmp_path):
    found = together(tmp_path, PARTS)
    assert not os.listdir(tmp_path)
    assert found[3, 1, 1] == PARTS[1][1, 1, 1]
