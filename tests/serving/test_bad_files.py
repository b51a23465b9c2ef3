"""Files that are no images, or vast ones: they get no class, cost nothing, and harm no other."""

import struct
import zlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf.data.resizing import resize
from pnil_tf.serving.decoding import MAX_PIXELS, decode

SHAPE = (8, 6, 1)
PIXELS = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
GOOD = tf.io.encode_png(PIXELS).numpy()


def png(height, width, rows=b"", colour=0):
    """A PNG file by hand, whose header can claim anything."""

    def chunk(kind, content):
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">2I5B", width, height, 8, colour, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


JPEG = tf.io.encode_jpeg(np.full(SHAPE, 99, np.uint8)).numpy()
SOF = JPEG.index(b"\xff\xc0") + 5  # where a JPEG states its height and width
BAD = {
    "empty": b"",
    "no image": b"no image",
    "signature alone": GOOD[:8],
    "header cut short": GOOD[:20],
    "pixels cut short": GOOD[:-20],
    "bit flipped": GOOD[:45] + bytes([GOOD[45] ^ 4]) + GOOD[46:],
    "no pixels": png(8, 6),
    "height 0": png(0, 6),
    "vast": png(20_000, 20_000, bytes(1000)),
    "as high as can be said": png(2**32 - 1, 2**32 - 1),
    "jpeg cut short": JPEG[:40],
    "vast jpeg": JPEG[:SOF] + b"\xff\xff\xff\xff" + JPEG[SOF + 4 :],
    "gif": b"GIF89a" + bytes(50),
    "bmp": b"BM" + bytes(60),
}


@pytest.fixture(scope="module", params=[False, True], ids=["as they are", "resized"])
def decoder(request):
    return tf.function(
        lambda files: decode(files, SHAPE, request.param),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_told_and_harms_no_other(decoder, name):
    pixels, good = decoder(tf.constant([GOOD, BAD[name], GOOD]))
    np.testing.assert_array_equal(good, [True, False, True])
    np.testing.assert_array_equal(pixels, [PIXELS, np.zeros(SHAPE), PIXELS])


def test_all_may_be_bad_and_there_may_be_none(decoder):
    pixels, good = decoder(tf.constant(list(BAD.values())))
    assert not good.numpy().any()
    assert not pixels.numpy().any()
    pixels, good = decoder(tf.constant([], tf.string))
    assert pixels.shape == (0, *SHAPE)
    assert good.shape == (0,)


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_whole_file_is_decoded(decoder, kind):
    file = {"png": GOOD, "jpeg": JPEG}[kind]
    pixels, good = decoder(tf.constant([file]))
    assert good.numpy().all()
    np.testing.assert_array_equal(pixels[0], tf.io.decode_image(file, channels=1))


def test_another_size_is_bad_unless_it_is_resized():
    other = np.random.default_rng(1).integers(0, 256, (30, 20, 1)).astype(np.uint8)
    files = tf.constant([tf.io.encode_png(other).numpy()])
    assert not decode(files, SHAPE, resized=False)[1].numpy().any()
    pixels, good = decode(files, SHAPE, resized=True)
    assert good.numpy().all()
    np.testing.assert_array_equal(pixels[0], resize(tf.constant(other), SHAPE[:2]))


def test_a_whole_file_that_would_take_too_much_memory_is_bad():
    side = int(MAX_PIXELS**0.5) + 1
    rows = bytes(side * (1 + side))
    file = png(side, side, rows)
    assert len(file) < len(rows) / 500
    assert not decode(tf.constant([file]), SHAPE, resized=True)[1].numpy().any()


def test_a_bad_file_has_the_answer_of_bad_pixels(tmp_path):
    from pnil_tf.serving.saved_model import export_saved_model

    layers = [keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(3)]
    path = export_saved_model(keras.Sequential(layers), tmp_path / "m")
    signatures = tf.saved_model.load(str(path)).signatures
    answer = signatures["serving_bytes"](image_bytes=tf.constant([GOOD, b"none", GOOD]))
    images = tf.constant(np.stack([PIXELS, PIXELS * np.nan, PIXELS]) / 255.0, tf.float32)
    expected = signatures["serving_default"](images=images)
    for name, values in expected.items():
        np.testing.assert_allclose(answer[name], values, atol=1e-6)
    assert answer["class"][1] == -1
