"""Replicas must share every global batch without loss or repetition."""

import numpy as np

from pnil_tf.data import ImageSet, batches, training_stream


def test_mirrored_replicas_split_the_global_batch(two_replicas):
    images = ImageSet(np.zeros((23, 2, 2, 1), np.uint8), np.arange(23, dtype=np.int32))

    def shares(stream, steps):
        iterator = iter(two_replicas.experimental_distribute_dataset(stream))
        for _ in range(steps):
            _, labels = next(iterator)
            yield [part.numpy() for part in two_replicas.experimental_local_results(labels)]

    alone = [y for _, y in training_stream(images, 6, 1, 2).take(7).as_numpy_iterator()]
    for whole, parts in zip(alone, shares(training_stream(images, 6, 1, 2), 7), strict=True):
        assert [len(part) for part in parts] == [3, 3]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    finite = [np.concatenate(parts) for parts in shares(batches(images, 6), 4)]
    np.testing.assert_array_equal(np.concatenate(finite), np.arange(23))
