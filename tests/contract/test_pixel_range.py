"""A pixel range maps to [0, 1] and back, and says a radius in both."""

import numpy as np
import pytest

from pnil_tf.contract.pixel_range import (
    BYTES,
    SIGNED,
    UNIT,
    PixelRange,
    check_epsilon,
    range_like,
    share_text,
)
from pnil_tf.errors import UserError

RANGES = [UNIT, BYTES, SIGNED, PixelRange(-3.5, 0.25)]


@pytest.mark.parametrize("pixel_range", RANGES, ids=str)
def test_to_unit_and_back(pixel_range):
    unit = np.linspace(0, 1, 256, dtype=np.float32)
    pixels = pixel_range.from_unit(unit)
    assert pixels.dtype == np.float32
    assert (pixels[0], pixels[-1]) == (pixel_range.low, pixel_range.high)
    np.testing.assert_allclose(pixel_range.to_unit(pixels), unit, atol=1e-6)


def test_the_unit_range_changes_no_bit():
    images = np.random.default_rng(0).random(10, np.float32)
    assert UNIT.to_unit(images) is images
    assert UNIT.from_unit(images) is images


@pytest.mark.parametrize(
    ("pixel_range", "epsilon", "words"),
    [
        (BYTES, 8 / 255, "8/255 of the range (8 of 255)"),
        (UNIT, 8 / 255, "8/255 of the range (8 of 255)"),
        (SIGNED, 8 / 255, "8/255 of the range (0.06275 of 2)"),
        (UNIT, 0.3, "0.3 of the range (76.5 of 255)"),
        (BYTES, 1.0, "1 of the range (255 of 255)"),
        (UNIT, 0.5, "0.5 of the range (127.5 of 255)"),
    ],
)
def test_a_radius_is_said_both_ways(pixel_range, epsilon, words):
    assert pixel_range.says(epsilon) == words


@pytest.mark.parametrize(
    ("pixel_range", "scale"),
    [(UNIT, "510 in [0, 255]"), (BYTES, "510 in [0, 255]"), (SIGNED, "4 in [-1, 1]")],
)
def test_a_length_in_l2_is_no_share_of_the_range(pixel_range, scale):
    assert pixel_range.says(2.0, "l2") == f"2 of pixels in [0, 1] ({scale})"


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (8 / 255, "8/255"),
        (0.03, "0.03"),
        (0.3, "0.3"),
        (0.2, "0.2"),  # 51 of 255, too, but nobody says so
        (1.0, "1"),
        (1 / 3, "0.3333"),
        (2 / 255 / 3, "0.002614"),
    ],
)
def test_a_share_is_written_as_it_is_usually_said(length, words):
    assert share_text(length) == words


@pytest.mark.parametrize(
    "value",
    [
        *((1, 0), (0, 0), (0, float("inf")), (0, "a"), 255, "0,255", (0, 1, 2), (False, True)),
        *((-1e308, 1e308), (0, 1e39), (0, 1e-50), (2**24, 2**24 + 1)),  # float32 knows none
    ],
)
def test_what_is_no_range_is_refused(value):
    with pytest.raises(UserError, match="A pixel range is two numbers"):
        PixelRange.of(value)


def test_a_radius_in_pixels_is_refused_with_the_share():
    with pytest.raises(UserError, match=r"write epsilon=8/255\."):
        check_epsilon(8, "linf", lambda: BYTES)
    with pytest.raises(UserError, match=r"write epsilon=8/255\."):
        check_epsilon(8, "linf")
    with pytest.raises(UserError, match="epsilon must be a number above 0"):
        check_epsilon(0, "linf")
    check_epsilon(8, "l2")
    check_epsilon(1, "linf")


def test_ranges_are_recognised_by_their_values():
    assert range_like(0.0, 1.0) == UNIT
    assert range_like(-1.0, 1.0) == SIGNED
    assert range_like(0.0, 251.0) == BYTES
    assert range_like(-300.0, 2.0) is None
    assert range_like(0.0, 16.0) is None
