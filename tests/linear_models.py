"""A linear classifier behind noise: its smoothed answers and robust radii are known exactly."""

import keras
import numpy as np

from pnil_tf.layers import PNILLayer

SHAPE = (4, 4, 1)


def linear(sigma, weights, bias, pixel_range=(0, 1), **options):
    """Two classes; class 1 above the hyperplane of unit images."""
    low, high = pixel_range
    layer = PNILLayer(use_kernel=False, pixel_range=pixel_range, **options)
    dense = keras.layers.Dense(2)
    model = keras.Sequential([keras.Input(SHAPE), layer, keras.layers.Flatten(), dense])
    layer.bias.assign(2.0 * np.log(np.reshape(sigma, SHAPE)))
    w = weights / (high - low)
    dense.set_weights([np.stack([0 * w, w], 1), np.array([0.0, bias - low * w.sum()])])
    return model


def weakest():
    """Sigmas, the weights that are worst for them, and images at several distances."""
    generator = np.random.default_rng(0)
    sigma = generator.uniform(0.1, 0.5, 16)
    weights = 1.0 / sigma**2
    x = generator.random((6, *SHAPE)).astype(np.float32)
    bias = -float(np.mean(x.reshape(6, -1) @ weights))
    return sigma, weights, bias, x


def exact(problem):
    """The class of each image, its radius in l_inf, and the quantile of its share of draws."""
    sigma, weights, bias, x = problem
    margin = x.reshape(len(x), -1) @ weights + bias
    spread = np.sqrt((weights**2 * sigma**2).sum())
    return (margin > 0).astype(int), np.abs(margin) / weights.sum(), np.abs(margin) / spread
