"""Batches cover everything once, and nothing else cuts into batches."""

import re
from pathlib import Path

import pytest

from pnil_tf.batching import batches_of


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (3, [3]), (4, [4]), (9, [4, 4, 1])])
def test_batches_cover_every_item_once_and_in_order(count, sizes):
    items = list(range(count))
    batches = [items[rows] for rows in batches_of(count, 4)]
    assert [len(batch) for batch in batches] == sizes
    assert [item for batch in batches for item in batch] == items


def test_nobody_slices_batches_by_hand():
    package = Path(__file__).resolve().parent.parent / "pnil_tf"
    by_hand = re.compile(
        r"range\(0, len\(\w+\), |\[(\w+) : \1 \+ (?!1\b)\w*(size|batch|at_once)\b", re.I
    )
    found = {file.name for file in package.rglob("*.py") if by_hand.search(file.read_text("utf-8"))}
    assert found == set()
