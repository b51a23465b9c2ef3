"""Random views are shifts and mirror images of what they show."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.errors import UserError
from pnil_tf.training.augmentation import augmented
from pnil_tf.training.model import AdversarialModel

SIDE, BORDER = 16, 2


@pytest.fixture(scope="module")
def images():
    generator = np.random.default_rng(0)
    return generator.uniform(0.5, 1.0, (300, SIDE, SIDE, 2)).astype(np.float32)


def views_of(image, mirrored):
    """Every view that there can be of one image, by what was done to it."""
    padded = np.pad(image, [(BORDER, BORDER), (BORDER, BORDER), (0, 0)], constant_values=-1.0)
    return {
        (down, right, mirror): padded[down : down + SIDE, side : side + SIDE]
        for mirror, padded in enumerate([padded, padded[:, ::-1]][: 1 + mirrored])
        for down in range(2 * BORDER + 1)
        for right, side in enumerate(range(2 * BORDER + 1))
    }


@pytest.mark.parametrize(("kind", "jit"), [("shift", False), ("flip_crop", True)])
def test_each_view_is_one_of_those_there_can_be_and_all_come_up(images, kind, jit):
    views_in_graph = tf.function(augmented, jit_compile=jit)
    views = views_in_graph(tf.constant(images), rng.make_seed(1), kind, -1.0).numpy()
    assert views.shape == images.shape
    counts = dict.fromkeys(views_of(images[0], kind == "flip_crop"), 0)
    for image, view in zip(images, views, strict=True):
        possible = views_of(image, kind == "flip_crop").items()
        (found,) = [what for what, candidate in possible if np.array_equal(candidate, view)]
        counts[found] += 1
    # A mean of 12 or 6; that one does not come up at all has a chance of 1 in 10,000.
    assert sum(count > 0 for count in counts.values()) > 0.9 * len(counts)


def test_views_follow_the_seed_alone(images):
    first, again, other = (
        augmented(tf.constant(images), rng.make_seed(seed), "flip_crop", 0.0).numpy()
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_without_augmentation_images_are_left_alone(images):
    assert augmented(images, rng.make_seed(1), "none", 0.0) is images


def compiled(shape, augment, declared=True):
    first = [keras.Input(shape)] if declared else []
    classifier = keras.Sequential([*first, keras.layers.Flatten(), keras.layers.Dense(2)])
    model = AdversarialModel(classifier, "none", augment=augment)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@pytest.mark.parametrize("augment", ["shift", "flip_crop"])
@pytest.mark.parametrize(
    ("shape", "remedy"), [((3, 16, 16), "channels last"), ((8, 8), "three axes"), ((4,), "three")]
)
def test_images_whose_height_and_width_are_elsewhere_are_refused(shape, remedy, augment):
    words = rf"augment='{augment}'.*shape \({str(shape)[1:-1]}\)\. .*{remedy}.*'none'"
    with pytest.raises(UserError, match=words):
        compiled(shape, augment)
    later = compiled(shape, augment, declared=False)
    with pytest.raises(UserError, match=words):
        later.fit(np.zeros((4, *shape), np.float32), np.zeros(4, np.int32), verbose=0)
    compiled(shape, "none")


def test_the_remedy_for_channels_that_come_first_is_one():
    first = keras.layers.Permute((3, 1, 2))
    images = np.random.default_rng(0).random((2, 3, 16, 8))
    np.testing.assert_array_equal(first(images.transpose(0, 2, 3, 1)), images.astype(np.float32))
