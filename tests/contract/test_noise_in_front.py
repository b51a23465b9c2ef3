"""Noise layers that a user placed by hand, and the pixels that they see."""

import warnings

import keras
import pytest

from pnil_tf.contract.classifier import classifier_of
from pnil_tf.layers import PNILLayer

D = keras.layers


def sequential(*layers):
    return keras.Sequential([keras.Input((8, 8, 1)), *layers, D.Flatten(), D.Dense(2)])


def functional(*layers):
    inside = sequential(*layers)
    return keras.Model(inside.inputs, inside.outputs)


def nested(*layers):
    inner = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    return sequential(inner)


@pytest.mark.parametrize("make", [sequential, functional, nested])
def test_noise_that_is_meant_for_other_pixels_is_warned_of(make):
    model = make(PNILLayer(name="mine"), D.Rescaling(1 / 255))
    with pytest.warns(UserWarning, match=r"'mine' sees pixels in \[0, 255\].*255 times too small"):
        classifier_of(model)
    model = make(PNILLayer(pixel_range=(0, 255)))
    with pytest.warns(UserWarning, match=r"meant for \[0, 255\].*255 times too large"):
        classifier_of(model)


@pytest.mark.parametrize("make", [sequential, functional, nested])
def test_noise_that_fits_its_pixels_or_sees_none_is_no_matter(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        classifier_of(make(PNILLayer(pixel_range=(0, 255)), D.Rescaling(1 / 255)))
        classifier_of(make(D.Rescaling(1 / 255), PNILLayer()))
        classifier_of(make(PNILLayer()))
