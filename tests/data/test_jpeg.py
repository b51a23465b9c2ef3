import numpy as np
import pytest
import tensorflow as tf

from pnil_tf.data import jpeg

IMAGE = np.random.RandomState(0).randint(0, 256, (16, 16, 3)).astype(np.uint8)


@pytest.mark.parametrize("quality", [25, 40, 50, 75, 90, 95])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_quality_is_read_back(quality, channels):
    encoded = tf.io.encode_jpeg(IMAGE[..., :channels], quality=quality).numpy()
    assert jpeg.quality(encoded) == quality


def test_other_and_broken_files_have_none():
    encoded = tf.io.encode_jpeg(IMAGE).numpy()
    assert jpeg.quality(tf.io.encode_png(IMAGE).numpy()) is None
    assert jpeg.quality(b"") is None
    for length in range(40):
        assert jpeg.quality(encoded[:length]) is None
