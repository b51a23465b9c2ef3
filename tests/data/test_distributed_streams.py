"""Replicas must share every global batch without loss or repetition."""

import subprocess
import sys

PROGRAM = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from pnil_tf.data import ImageSet, batches, training_stream
images = ImageSet(np.zeros((23, 2, 2, 1), np.uint8), np.arange(23, dtype=np.int32))
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

def shares(stream, steps):
    iterator = iter(strategy.experimental_distribute_dataset(stream))
    for _ in range(steps):
        _, labels = next(iterator)
        yield [part.numpy() for part in strategy.experimental_local_results(labels)]

alone = [y for _, y in training_stream(images, 6, 1, 2).take(7).as_numpy_iterator()]
for whole, parts in zip(alone, shares(training_stream(images, 6, 1, 2), 7), strict=True):
    assert [len(part) for part in parts] == [3, 3], parts
    assert np.array_equal(np.concatenate(parts), whole), (parts, whole)
finite = [np.concatenate(parts) for parts in shares(batches(images, 6), 4)]
assert np.array_equal(np.concatenate(finite), np.arange(23)), finite
print("equal")
"""


def test_mirrored_replicas_split_the_global_batch():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.strip().endswith("equal"), done.stderr[-2000:]
