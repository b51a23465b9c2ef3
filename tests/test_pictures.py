"""Pictures: whole PNG files of a sensible size, from whatever a run leaves."""

import struct

import keras
import numpy as np
import pytest

from pnil_tf.errors import UserError
from pnil_tf.layers import PNILLayer
from pnil_tf.models import resnet11, small_cnn
from pnil_tf.pictures import first_pnil, learning_curves, pnil_maps
from pnil_tf.surgery import add_pnil


def size(path):
    """Width and height of a PNG, from its header."""
    header = path.read_bytes()[:24]
    assert header.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", header[16:])


def images(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


def test_learning_curves_have_a_panel_for_each_kind(tmp_path):
    losses = [{"epoch": e, "loss": 2.0 / e, "val_adversarial_loss": 3.0 / e} for e in (1, 2, 3)]
    rates = [{**row, "accuracy": 0.5, "learning_rate": 0.1} for row in losses]
    learning_curves(losses, tmp_path / "one.png")
    learning_curves(rates, tmp_path / "three.png")
    assert size(tmp_path / "three.png")[0] == 3 * size(tmp_path / "one.png")[0]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_learning_curves_stand_gaps_and_single_epochs(tmp_path):
    learning_curves([{"loss": 1.0}], tmp_path / "single.png")
    learning_curves(
        [{"loss": float("nan")}, {"accuracy": 0.3}, {"loss": float("inf"), "accuracy": 0.1}],
        tmp_path / "gaps.png",
    )
    assert size(tmp_path / "single.png")
    assert size(tmp_path / "gaps.png")


@pytest.mark.parametrize("rows", [[], [{}], [{"epoch": 1.0}]])
def test_learning_curves_of_nothing_are_refused(rows, tmp_path):
    with pytest.raises(UserError, match=f"{len(rows)} rows"):
        learning_curves(rows, tmp_path / "none.png")
    assert not list(tmp_path.iterdir())


def wrapped():
    inner = small_cnn((8, 8, 1), 3, pnil=PNILLayer())
    inputs = keras.Input((8, 8, 1))
    return keras.Model(inputs, inner(inputs))


def behind_rescaling():
    return keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Rescaling(2.0), PNILLayer(), keras.layers.Flatten()]
    )


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.noise = PNILLayer()

    def call(self, x):
        return self.noise(x)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: small_cnn((8, 8, 1), 3, pnil=PNILLayer()), True),
        (lambda: resnet11((8, 8, 3), 3, width=2, pnil=PNILLayer()), True),
        (lambda: add_pnil(small_cnn((8, 8, 1), 3)), True),
        (wrapped, True),
        (lambda: small_cnn((8, 8, 1), 3), False),
        (behind_rescaling, False),
        (Subclassed, False),
    ],
)
def test_only_a_layer_at_the_input_is_the_first(make, found):
    assert isinstance(first_pnil(make()), PNILLayer) == found


def height_of_maps(folder, count, channels=1, per_channel=False):
    model = small_cnn((8, 8, channels), 3, width=2, pnil=PNILLayer(per_channel, initial_sigma=0.3))
    pnil_maps(model, images(count, 8, 8, channels), folder / "maps.png")
    return size(folder / "maps.png")[1]


def test_maps_grow_with_the_images_up_to_six(tmp_path):
    heights = [height_of_maps(tmp_path, count) for count in (1, 6, 9)]
    assert heights[0] < heights[1] == heights[2]


@pytest.mark.parametrize(("channels", "per_channel"), [(1, True), (3, False), (3, True)])
def test_maps_of_layers_of_every_kind_are_as_high(channels, per_channel, tmp_path):
    heights = [height_of_maps(tmp_path, count, channels, per_channel) for count in (1, 2)]
    assert heights[0] < heights[1]


def test_maps_without_a_first_layer_or_without_images_are_refused(tmp_path):
    with pytest.raises(UserError, match="no PNILLayer"):
        pnil_maps(small_cnn((8, 8, 1), 3), images(1, 8, 8, 1), tmp_path / "maps.png")
    noisy = small_cnn((8, 8, 1), 3, pnil=PNILLayer())
    for shape in ((8, 8, 1), (0, 8, 8, 1)):
        with pytest.raises(UserError, match="Received: shape"):
            pnil_maps(noisy, np.zeros(shape), tmp_path / "maps.png")
    assert not list(tmp_path.iterdir())
