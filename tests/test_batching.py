"""Batches cover everything once."""

import pytest

from pnil_tf.batching import batches_of


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (3, [3]), (4, [4]), (9, [4, 4, 1])])
def test_batches_cover_every_item_once_and_in_order(count, sizes):
    items = list(range(count))
    batches = [items[rows] for rows in batches_of(count, 4)]
    assert [len(batch) for batch in batches] == sizes
    assert [item for batch in batches for item in batch] == items
