import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf.errors import UserError
from pnil_tf.evaluation.sources import class_numbers, gathered

X = np.arange(10 * 2 * 3, dtype=np.float32).reshape(10, 2, 3, 1)
Y = np.arange(10) % 3


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        assert i < 3, "more was read than was asked for"
        return X[3 * i : 3 * i + 3], Y[3 * i : 3 * i + 3], np.ones(3)


class ImagesAlone(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        return X[3 * i : 3 * i + 3]


def dataset():
    return tf.data.Dataset.from_tensor_slices((X, Y))


SOURCES = {
    "arrays": lambda: (X, Y),
    "lists": lambda: (X.tolist(), Y.tolist()),
    "tensors": lambda: (tf.constant(X), tf.constant(Y)),
    "one-hot labels": lambda: (X, np.eye(3)[Y]),
    "single images": lambda: (dataset(), None),
    "batches": lambda: (dataset().batch(4), None),
    "endless batches": lambda: (dataset().repeat().batch(4), None),
    "named": lambda: (dataset().map(lambda x, y: {"image": x, "label": y}), None),
    "weighted one-hot batches": lambda: (
        dataset().map(lambda x, y: (x, tf.one_hot(y, 3), 1.0)).batch(4),
        None,
    ),
    "PyDataset": lambda: (Batches(), None),
}


@pytest.mark.parametrize("source", SOURCES)
def test_the_first_images_come_from_anything(source):
    images, labels, _, _ = gathered(*SOURCES[source](), 7)
    np.testing.assert_array_equal(images, X[:7])
    np.testing.assert_array_equal(labels, Y[:7])


@pytest.mark.parametrize("source", ["array", "tf.data", "alone in a tuple", "by name", "PyDataset"])
def test_images_may_be_alone_where_nothing_is_said_of_right_and_wrong(source):
    x = {
        "array": X,
        "tf.data": dataset().map(lambda x, y: x).batch(4),
        "alone in a tuple": dataset().map(lambda x, y: (x,)).batch(4),
        "by name": dataset().map(lambda x, y: {"image": x, "name": "a"}).batch(4),
        "PyDataset": ImagesAlone(),
    }[source]
    images, labels, _, places = gathered(x, None, 7, labelled=False)
    np.testing.assert_array_equal(images, X[:7])
    np.testing.assert_array_equal(places, np.arange(7))
    assert labels is None
    with pytest.raises(UserError, match=r"[Ll]abels|and a 'label'"):
        gathered(x, None, 7)
    assert gathered(dataset().batch(4), None, 7, labelled=False).labels is not None


def test_labels_of_another_name_are_not_left_out_without_a_word():
    odd = dataset().map(lambda x, y: {"image": x, "labels": y}).batch(4)
    with pytest.raises(UserError, match="must have an 'image' and a 'label'"):
        gathered(odd, None, 7, labelled=False)


def test_fewer_images_are_all_of_them():
    images, labels, source, _ = gathered(dataset().batch(4), None, 100)
    assert (len(images), len(labels), source) == (10, 10, "tf.data")


def test_labels_that_are_no_one_hot_rows_stay_as_they_are():
    for labels in ([0, 1, 2], [[0], [1]], [[1, 1, 0]], [["a", "b"]], [[0.2, 0.8]]):
        np.testing.assert_array_equal(class_numbers(labels), labels)


def unequal():
    return tf.data.Dataset.from_generator(
        lambda: ((X[:2, :height], Y[:2]) for height in (1, 2)),
        output_signature=(
            tf.TensorSpec([None, None, 3, 1], tf.float32),
            tf.TensorSpec([None], tf.int32),
        ),
    )


class InTwoBatches(keras.utils.PyDataset):
    """Images whose labels come in two forms."""

    def __init__(self, first, second):
        super().__init__()
        self.labels = first, second

    def __len__(self):
        return 2

    def __getitem__(self, i):
        return X[3 * i : 3 * i + 3], self.labels[i]


def of_several_classes_later():
    rows = np.eye(3)[Y]
    rows[7] = (1, 1, 0)
    return tf.data.Dataset.from_tensor_slices((X, rows)).batch(4)


def test_labels_are_rows_in_all_batches_or_numbers_in_all():
    images, labels, _, _ = gathered(of_several_classes_later(), None, 10)
    assert (len(images), labels.shape) == (10, (10, 3))  # left to be refused, as of arrays
    assert gathered(of_several_classes_later(), None, 4).labels.shape == (4,)


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (X, None, "pass y"),
        (dataset(), Y, "Leave y out"),
        (tf.data.Dataset.from_tensor_slices(X), None, "pairs"),
        (dataset().map(lambda x, y: {"pixels": x, "label": y}), None, "'pixels', 'label'"),
        (dataset().batch(2).batch(2), None, "height, width, channels"),
        (dataset().take(0), None, "no images"),
        (None, Y, "x of the type NoneType"),
        ("photos", Y, "x of the type str"),
        ({"image": X}, Y, "x of the type dict"),
        (iter(X), Y, "x of the type"),
        (iter([(X, Y)]), None, "x of the type list_iterator"),
        ((X, Y), None, "x of the type tuple"),
        ([X[0], X[1][:1]], Y, "x of the type list"),
        (X, 3, "y of the type int"),
        (X, Y[:-1], "images need as many whole-number labels"),
        (X, iter(Y), "y of the type"),
        (InTwoBatches(Y[:3], np.eye(3)[Y[3:6]]), None, r"shapes \(3,\) and \(3, 3\).*class number"),
        (InTwoBatches(np.eye(3)[Y[:3]], np.eye(4)[Y[3:6]]), None, r"shapes \(3, 3\) and \(3, 4\)"),
        (unequal(), None, r"shapes \(1, 3, 1\) and \(2, 3, 1\)"),
    ],
)
def test_what_is_no_images_with_labels_is_refused(x, y, words):
    with pytest.raises(UserError, match=words):
        gathered(x, y, 5)


def by_class(count=60):
    """Images that tell their own class, sorted by it."""
    labels = np.repeat(np.arange(3), count // 3)
    images = np.broadcast_to(labels[:, None, None, None], (count, 2, 3, 1)).astype(np.float32)
    return images + np.linspace(0, 0.5, count, dtype=np.float32)[:, None, None, None], labels


@pytest.mark.parametrize("source", ["arrays", "tf.data", "whole tf.data"])
def test_images_that_are_sorted_by_class_are_mixed_before_some_are_chosen(source):
    images, labels = by_class()
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)
    if source == "arrays":
        found, numbers, _, places = gathered(images, labels, 30)
        np.testing.assert_array_equal(found, images[places])
        again, _, _, _ = gathered(images, labels, 30)
        np.testing.assert_array_equal(found, again)
        assert len(found) == 30
    elif source == "tf.data":
        with pytest.raises(UserError, match=r"sorted by class.* first 30 images"):
            gathered(batches, None, 30)
        return
    else:
        found, numbers, _, _ = gathered(batches, None, 60)
    assert len(np.unique(numbers[:20])) == 3
    np.testing.assert_array_equal(np.floor(found[:, 0, 0, 0]), numbers)


def test_labels_of_another_number_than_the_images_are_left_to_be_refused():
    images, labels = by_class()
    batches = tf.data.Dataset.from_tensors((images, labels[:40]))
    found, numbers, _, _ = gathered(batches, None, 100)
    assert (len(found), len(numbers)) == (60, 40)


def test_images_in_a_mixed_order_keep_it():
    images, labels = by_class()
    order = np.random.default_rng(1).permutation(60)
    found, numbers, _, places = gathered(images[order], labels[order], 30)
    np.testing.assert_array_equal(places, np.arange(30))
    np.testing.assert_array_equal(found, images[order][:30])
    np.testing.assert_array_equal(numbers, labels[order][:30])


def test_images_of_a_data_set_that_begins_again_count_once():
    with pytest.raises(UserError, match=r"10 different ones among 25. Leave repeat"):
        gathered(dataset().repeat().batch(4), None, 25)
