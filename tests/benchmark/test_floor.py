"""What the floor says follows from the timings alone."""

import numpy as np
import pytest
import tensorflow as tf

from pnil_tf.benchmark.floor import floored, forward_passes, forward_rate
from pnil_tf.benchmark.timing import Timing
from pnil_tf.rng import layer_noise


def test_the_best_batch_size_makes_the_rate():
    names = forward_passes(lambda x: x, (2,))
    timings = {name: Timing([4.0, 2.0, 3.0], 1, [1.0]) for name in names}
    timings[list(names)[2]] = Timing([0.5, 9.0, 0.25], 1, [1.0])
    assert forward_rate(timings) == 1000 / 0.5


def test_floor_of_a_row():
    row = floored({"per_second": 50.0}, rate=600.0, operations=3.0)
    assert row == {"per_second": 50.0, "floor_per_second": 200.0, "times_floor": 4.0}


def test_passes_take_every_image_once_and_no_noise():
    seen = []

    def predict(x):
        tf.py_function(lambda images: seen.append(images.numpy()), [x], [])
        return x + layer_noise(tf.shape(x), False)

    for name, run in forward_passes(predict, (1,)).items():
        seen.clear()
        run()
        assert sum(len(images) for images in seen) == 1000, name


def test_noise_is_off():
    outputs = []

    def predict(x):
        noise = layer_noise(tf.shape(x), False)
        tf.py_function(lambda values: outputs.append(np.abs(values).max()), [noise], [])
        return noise

    next(iter(forward_passes(predict, (1,)).values()))()
    assert max(outputs) == pytest.approx(0.0)
