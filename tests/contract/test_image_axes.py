"""Channels that come first are told by their number."""

import pytest

from pnil_tf.contract.image_axes import channels_first


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (4, 64, 48), (3, None, None)])
def test_channels_that_come_first_are_seen(shape):
    assert channels_first(shape)


@pytest.mark.parametrize(
    "shape",
    [
        (28, 28, 1),
        (32, 32, 3),
        (8, 8, 12),
        (None, None, None),
        (3, 8, 3),
        (1, 128, 2),
        (3, 8),
        (3,),
    ],
)
def test_other_shapes_are_not_taken_for_such(shape):
    assert not channels_first(shape)
