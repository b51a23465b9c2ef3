"""One image file of the user's own: its header, its 8-bit pixels, or why it cannot be used."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image, UnidentifiedImageError

# What each of Pillow's readers is called, and the files that are handed to it.
FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
}
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)

_GREY = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N", "I")
_READ = (*_GREY, "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_DEPTH = 24  # the place of the bits per channel in a PNG file
_ORIENTATION = 0x0112
# What brings pixels (height, width, channels) upright, by the EXIF tag.
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x[::-1].swapaxes(0, 1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: x.swapaxes(0, 1)[::-1],
}


class UnusableImageError(ValueError):
    """Why a file is no image that can be used, one clause."""


@dataclass(frozen=True)
class Header:
    """What an image file says of itself: its size as it is shown, and whether it is grey."""

    height: int
    width: int
    grey: bool


@dataclass(frozen=True)
class Traits:
    """What had to be done to bring an image file to its pixels.

    Attributes:
        deepest: the highest value of any channel, of 65,535, if it has 16 bits per channel.
        transparent: whether it was laid on white.
        cmyk: whether it was converted from the four colours of print.
        turned: whether it was stored in another orientation than it is shown in.
    """

    deepest: int | None
    transparent: bool
    cmyk: bool
    turned: bool


@contextlib.contextmanager
def no_limits() -> Iterator[None]:
    """Keep Pillow from judging sizes by a fixed limit, and from warning of anything.

    What fits is decided by the memory at hand. Its warnings are ignored from then on, until the
    filters of warnings are set again; those of others are left alone.
    """
    _LIMITS.lift()
    try:
        yield
    finally:
        _LIMITS.put_back()


class _Limits:
    """Pillow's limit, put back by the last of those who lifted it, in whichever thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lifted = 0

    def lift(self) -> None:
        with self._lock:
            if not self._lifted:
                self._limit = Image.MAX_IMAGE_PIXELS
                Image.MAX_IMAGE_PIXELS = None
            self._lifted += 1
            # Python has one list of filters for all threads, so nothing could be put back safely.
            warnings.filterwarnings("ignore", module=r"PIL\.")

    def put_back(self) -> None:
        with self._lock:
            self._lifted -= 1
            if not self._lifted:
                Image.MAX_IMAGE_PIXELS = self._limit


_LIMITS = _Limits()


def inspect(path: Path) -> Header:
    """The header of an image file, without decoding its pixels.

    Raises:
        UnusableImageError: if it is no still image of `FORMATS`.
    """
    with _opened(path) as image:
        width, height = image.size
        if _orientation(image) >= 5:
            width, height = height, width
        return Header(height, width, _is_grey(image))


def decode(path: Path) -> tuple[np.ndarray, Traits]:
    """Read an image as it is shown: upright, transparent parts on white, 8 bits per channel.

    16-bit channels are divided by 257, so that their whole range becomes the whole range.

    Returns:
        uint8 `(height, width, 1)` if the image is grey, else `(height, width, 3)`, and how it
        came to be.

    Raises:
        UnusableImageError: if it is damaged, or nothing would be seen of it.
    """
    with _opened(path) as image:
        turn, grey, cmyk = _orientation(image), _is_grey(image), image.mode == "CMYK"
        deepest = None
        if _is_deep(path):
            deep = _decode_deep(path)
            deepest = int(deep[..., : 1 if grey else 3].max())
            if 0 < deepest < 256:
                raise UnusableImageError(
                    f"its 16-bit pixels go up to {deepest} of 65,535 and would come out black: "
                    "save it with 8 bits"
                )
            pixels = ((deep.astype(np.uint32) + 128) // 257).astype(np.uint8)
        elif image.has_transparency_data:
            pixels = np.asarray(image.convert("RGBA"))
        elif grey:
            pixels = np.asarray(image.convert("L"))[..., np.newaxis]
        else:
            pixels = np.asarray(image.convert("RGB"))
    transparent = False
    if pixels.shape[-1] in (2, 4):
        pixels, transparent = _on_white(pixels[..., :-1], pixels[..., -1:])
    if grey:
        pixels = pixels[..., :1]
    upright = _UPRIGHT[turn](pixels) if turn in _UPRIGHT else pixels
    return upright, Traits(deepest, transparent, cmyk, turn in _UPRIGHT)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        if not path.is_file():  # a pipe would be waited for
            raise UnusableImageError("is no file")
        with path.open("rb") as file, Image.open(file, formats=tuple(FORMATS)) as image:
            _check_kind(image)
            yield image
    except UnusableImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnusableImageError("is damaged or of another format than its name says") from error
    # Damaged files end in errors of every kind in Pillow's decoders.
    except Exception as error:
        said = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise UnusableImageError(f"cannot be read: {said}") from error


def _check_kind(image: Image.Image) -> None:
    if 0 in image.size:
        raise UnusableImageError(f"has the size {image.height} x {image.width}")
    # A photograph of a phone may carry further pictures (MPO); the first is the photograph.
    frames = getattr(image, "n_frames", 1)
    if image.format != "MPO" and frames > 1:
        raise UnusableImageError(f"is animated, with {frames} frames: keep one of them")
    if image.mode not in _READ:
        raise UnusableImageError(f"has pixels of the kind {image.mode}, which are not read")


def _is_grey(image: Image.Image) -> bool:
    if image.mode in ("P", "PA"):
        colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
        return bool((colours == colours[:, :1]).all())
    return image.mode in _GREY


def _orientation(image: Image.Image) -> int:
    try:
        # Of the base class: a PNG file's own would decode the pixels, to look behind them, too.
        return int(Image.Image.getexif(image).get(_ORIENTATION, 1))
    except Exception:  # damaged metadata say nothing of the pixels
        return 1


def _is_deep(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(_PNG_DEPTH + 1)
    return start.startswith(_PNG) and start[_PNG_DEPTH:] == b"\x10"


def _decode_deep(path: Path) -> np.ndarray:
    """All 16 bits of a PNG file, of which Pillow keeps eight where there is colour."""
    decoded: np.ndarray = tf.io.decode_png(path.read_bytes(), dtype=tf.uint16).numpy()
    return decoded


def _on_white(pixels: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, bool]:
    if alpha.min() == 255:
        return pixels, False
    if alpha.max() == 0:
        raise UnusableImageError("is wholly transparent")
    share = alpha.astype(np.uint32)
    laid = ((pixels * share + 255 * (255 - share) + 127) // 255).astype(np.uint8)
    if laid.min() == laid.max():
        raise UnusableImageError(
            "is blank on a white ground: its picture is in the transparency alone"
        )
    return laid, True
