"""The bounds within a graph against those of SciPy: never above, and hardly below."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf.certificate import bounds
from pnil_tf.certificate.front import noise_in_front
from pnil_tf.certificate.in_graph import lower_confidence, radii_of
from pnil_tf.contract.classifier import classifier_of
from pnil_tf.layers import PNILLayer

SHAPE = (3, 4, 2)


@pytest.mark.parametrize("alpha", [0.001, 0.05])
@pytest.mark.parametrize("draws", [1, 7, 100, 1000, 10_000, 100_000])
def test_the_confidence_bound_is_never_above_scipys(draws, alpha):
    near = np.arange(min(draws, 50) + 1)
    hits = np.unique(np.concatenate([near, draws - near, np.linspace(0, draws, 200).astype(int)]))
    expected = bounds.lower_confidence(hits, draws, alpha)
    found = tf.function(lower_confidence)(tf.constant(hits), tf.constant(draws), alpha).numpy()
    assert (found <= expected).all()
    np.testing.assert_allclose(found, expected, rtol=2e-6)


def test_the_confidence_bound_is_found_on_the_cpu_whatever_else_there_is():
    """A graphics card has an incomplete beta function of its own, which nobody has compared."""
    whole = tf.TensorSpec([], tf.int32)
    graph = tf.function(lower_confidence).get_concrete_function(whole, whole, 0.001).graph
    bodies = graph.as_graph_def().library.function
    devices = {node.device for body in bodies for node in body.node_def if node.op == "Betainc"}
    assert devices == {"/device:CPU:0"}


def front_of(in_front, **options):
    layer = PNILLayer(
        kernel_initializer=keras.initializers.RandomNormal(0.5, seed=1),
        bias_initializer=keras.initializers.RandomNormal(-1.0, 0.5, seed=2),
        pixel_range=(-1, 2),
        **options,
    )
    layers = [*in_front, layer, keras.layers.Flatten(), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input(SHAPE), *layers])
    return noise_in_front(classifier_of(model, pixel_range=(0, 255) if in_front else None))


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "scaled"])
@pytest.mark.parametrize("options", [{"use_kernel": False}, {}, {"sigma_floor": 0.1}], ids=str)
def test_the_radii_are_those_of_the_certificate_and_never_larger(options, scaled):
    front = front_of((keras.layers.Rescaling([0.01, -0.02], 0.5),) if scaled else (), **options)
    share = np.array([0.0, 0.3, 0.5, 0.5000001, 0.6, 0.9, 0.999, 0.9999999])
    unit = np.random.default_rng(0).random((len(share), *SHAPE))
    found = tf.function(radii_of(front, SHAPE))(tf.constant(unit), tf.constant(share))
    for norm, radius in found.items():
        if front.fixed:
            assert options == {"use_kernel": False}
            sensitivity = bounds.sensitivity(front.sigma(np.zeros(SHAPE)), norm)
            expected = bounds.fixed_radius(share, sensitivity)
        else:
            expected = [
                bounds.any_radius(p, front.slope(), front.sigma(image), norm)
                for p, image in zip(share, unit, strict=True)
            ]
        assert (radius.numpy()[:3] == 0).all()
        assert (radius.numpy()[3:] > 0).all()
        assert (radius.numpy() <= np.asarray(expected) * (1 + 1e-12)).all()
        np.testing.assert_allclose(radius, expected, rtol=1e-5)
