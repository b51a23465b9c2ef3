"""Every kind of image file is read as it is shown, or refused by name."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from pnil_tf.data import DataSettings, load, pictures
from pnil_tf.errors import UserError

GRADIENT = np.stack(np.meshgrid(np.arange(0, 256, 8), np.arange(0, 256, 16)), -1)
RGB = np.concatenate([GRADIENT, 255 - GRADIENT[..., :1]], -1).astype(np.uint8)  # 16 x 32
GREY = RGB[..., 0]


def encoded(image, form, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, form, **options)
    return file.getvalue()


def deep(image):
    return tf.io.encode_png(image.astype(np.uint16)).numpy()


def read(root, name, content, **settings):
    """The pixels of one image file among enough plain ones to make a data set."""
    height, width = (16, 32) if "turned" not in name else (32, 16)
    plain = np.zeros((height, width, 3), np.uint8)
    for folder in ("cat", "dog"):
        (root / folder).mkdir(parents=True)
        for number in range(5):
            plain[0, 0] = number
            (root / folder / f"{number}.png").write_bytes(encoded(plain, "PNG"))
    (root / "cat" / name).write_bytes(content)
    data = load(DataSettings(f"folder:{root}", **settings))
    images = np.concatenate([part.images for part in data.sets.values()])
    assert len(images) == 11
    return images[images.reshape(11, -1).std(1).argmax()].astype(int), data


def palette(image, **options):
    file = io.BytesIO()
    Image.fromarray(image).convert("P", palette=Image.Palette.WEB).save(file, "PNG", **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "tolerance"),
    [
        ("a.png", encoded(RGB, "PNG"), 0),
        ("a.JPG", encoded(RGB, "JPEG", quality=100, subsampling=0), 6),
        ("a.jfif", encoded(RGB, "JPEG", quality=100, subsampling=0), 6),
        ("a.webp", encoded(RGB, "WEBP", lossless=True), 0),
        ("a.bmp", encoded(RGB, "BMP"), 0),
        ("a.gif", encoded(RGB, "GIF"), 60),  # 256 colours are left of it
        ("a.png", encoded(RGB, "WEBP", lossless=True), 0),  # the name of another format
        ("palette.png", palette(RGB), 80),  # of 216 colours
    ],
)
def test_formats(tmp_path, name, content, tolerance):
    image, _ = read(tmp_path, name, content)
    assert np.abs(image - RGB).max() <= tolerance


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "GIF"])
def test_grey_images_stay_grey(tmp_path, form):
    for folder in ("cat", "dog"):
        (tmp_path / folder).mkdir()
        for number in range(5):
            content = encoded(np.full((4, 4), 40 * number, np.uint8), form)
            (tmp_path / folder / f"{number}.{form.lower()}").write_bytes(content)
    assert load(DataSettings(f"folder:{tmp_path}")).input_shape == (4, 4, 1)


@pytest.mark.parametrize("colour", [False, True])
def test_16_bits_become_8_by_their_whole_range(tmp_path, colour):
    pixels = (RGB if colour else GREY[..., np.newaxis]).astype(int)
    image, data = read(tmp_path, "deep.png", deep(pixels * 257))
    assert np.abs(image - pixels).max() == 0
    assert data.remarks == ("1 image with 16 bits per channel, divided by 257",)


@pytest.mark.parametrize(
    ("highest", "message"),
    [(255, r"cat/deep\.png its 16-bit pixels go up to 255"), (4095, "go up to 4,095 of 65,535")],
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_that_use_a_part_of_their_range_are_refused(tmp_path, highest, message, channels):
    pixels = np.arange(16 * 32 * channels).reshape(16, 32, channels) % (highest + 1)
    pixels[..., -1:].fill(highest)
    if channels == 4:
        pixels[..., -1] = 65535
        pixels[0, 0, 0] = highest
    with pytest.raises(UserError, match=message):
        read(tmp_path, "deep.png", deep(pixels))


def test_transparent_images_are_laid_on_white(tmp_path):
    ink = np.concatenate([np.zeros_like(RGB), RGB[..., :1]], -1)  # black, of every strength
    image, data = read(tmp_path, "ink.png", encoded(ink, "PNG"))
    assert np.abs(image - (255 - RGB[..., :1].astype(int))).max() == 0
    assert data.remarks == ("1 image with transparent parts, laid on white",)


def test_an_opaque_alpha_channel_changes_nothing(tmp_path):
    opaque = np.concatenate([RGB, np.full_like(RGB[..., :1], 255)], -1)
    image, data = read(tmp_path, "opaque.png", encoded(opaque, "PNG"))
    assert (image == RGB).all()
    assert data.remarks == ()


@pytest.mark.parametrize(
    ("alpha", "message"),
    [(RGB[..., :1], "in the transparency alone"), (0 * RGB[..., :1], "wholly transparent")],
)
def test_images_of_which_nothing_would_be_seen_are_refused(tmp_path, alpha, message):
    white = np.concatenate([np.full_like(RGB, 255), alpha], -1)
    with pytest.raises(UserError, match=rf"cat/ghost\.png is .*{message}"):
        read(tmp_path, "ghost.png", encoded(white, "PNG"))


def test_a_transparent_colour_of_a_palette_becomes_white(tmp_path):
    black = Image.fromarray(np.where(RGB[..., :1] < 128, 0, RGB)).convert("P")
    file = io.BytesIO()
    black.save(file, "PNG", transparency=black.getpixel((0, 0)))
    image, _ = read(tmp_path, "palette.png", file.getvalue())
    assert (image[RGB[..., 0] < 128] == 255).all()
    assert image.min() < 128


def test_print_colours_become_rgb(tmp_path):
    file = io.BytesIO()
    Image.fromarray(RGB).convert("CMYK").save(file, "JPEG", quality=100, subsampling=0)
    image, data = read(tmp_path, "print.jpg", file.getvalue())
    assert np.abs(image - RGB).max() <= 6
    assert data.remarks == ("1 image in the four colours of print, converted to RGB",)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("bits", [8, 16])
def test_images_stand_upright(tmp_path, orientation, bits):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = encoded(RGB, "PNG", exif=exif)
    right = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(stored)))).astype(int)
    if bits == 16:  # the EXIF chunk of the one before the pixels of the other
        start, end = stored.index(b"eXIf") - 4, stored.index(b"IDAT") - 4
        chunk, deeper = stored[start:end], deep(RGB.astype(int) * 257)
        place = deeper.index(b"IDAT") - 4
        stored = deeper[:place] + chunk + deeper[place:]
    name = "turned.png" if orientation >= 5 else "image.png"
    image, _ = read(tmp_path, name, stored)
    assert (image == right).all()


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_animated_images_are_refused(tmp_path, form):
    frames = [Image.fromarray(np.roll(RGB, step, 1)) for step in range(3)]
    file = io.BytesIO()
    frames[0].save(file, form, save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match=r"cat/film\..* is animated, with 3 frames"):
        read(tmp_path, f"film.{form.lower()}", file.getvalue())


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_images_are_named(tmp_path, form, share):
    content = encoded(np.random.RandomState(0).randint(0, 256, RGB.shape).astype(np.uint8), form)
    with pytest.raises(UserError, match=rf"cat/cut\.{form.lower()} "):
        read(tmp_path, f"cut.{form.lower()}", content[: int(share * len(content))])


def test_a_photograph_with_a_second_picture_is_its_first(tmp_path):
    file = io.BytesIO()
    second = Image.fromarray(255 - RGB)
    options = {"quality": 100, "subsampling": 0}
    Image.fromarray(RGB).save(file, "MPO", save_all=True, append_images=[second], **options)
    image, _ = read(tmp_path, "phone.jpg", file.getvalue())
    assert np.abs(image - RGB).max() <= 6


def test_a_file_that_may_not_be_looked_at_is_unusable(tmp_path, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(type(tmp_path), "is_file", refused)
    with pytest.raises(pictures.UnusableImageError, match=r"cannot be read: .*Permission denied"):
        pictures.inspect(tmp_path / "1.jpg")
