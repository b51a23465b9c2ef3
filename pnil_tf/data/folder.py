"""Images of the user's own, in class folders."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from pnil_tf.data import memory, reading
from pnil_tf.data.types import SourceData
from pnil_tf.errors import UserError

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_GREY = (0, 4)
_SUFFIXES = (".jpg", ".jpeg", ".png")
# For each pixel of an image: four images in parallel, three colours, bytes and floats of each.
_DECODED_BYTES = 4 * 3 * (1 + 4)


def load(given: str, image_size: tuple[int, int] | None) -> SourceData:
    """Read `PATH/{train,test}/CLASS/*`, or `PATH/CLASS/*`, of PNG and JPEG images.

    Images are grey (one channel) if all of them are, else RGB.

    Args:
        given: the path as the user gave it.
        image_size: `(height, width)` to resize to; needed if the images differ in size.

    Raises:
        UserError: if there are no images in class folders, an image is broken, the sizes differ
            and none is asked for, or train and test have different classes.
    """
    import tensorflow_datasets as tfds

    root = Path(given).expanduser()
    if not root.is_dir():
        raise UserError(f"There is no folder of images here. Received: folder:{given}.")
    with _with_splits(root) as view:
        _check_classes(view, given)
        sizes = {_inspect(path) for path in _images(view)}
        if len({size[:2] for size in sizes}) > 1 and image_size is None:
            heights, widths = ([size[axis] for size in sizes] for axis in (0, 1))
            raise UserError(
                f"The images in folder:{given} have several sizes, from {min(heights)} x "
                f"{min(widths)} to {max(heights)} x {max(widths)}, and a network needs one. Give "
                "an image size, for instance 64x64."
            )
        # Whatever size is asked for, an image is decoded whole: a small file can be a vast image.
        height, width, _ = max(sizes, key=math.prod)
        memory.check_room(
            f"folder:{given}",
            _DECODED_BYTES * height * width,
            f"its largest images, of {height} x {width} pixels,",
            "Remove or shrink them.",
        )
        height, width, _ = next(iter(sizes))
        if len({size[:2] for size in sizes}) > 1:
            shape: tuple[int | None, int | None, int] = (None, None, _channels(sizes))
        else:
            shape = (height, width, _channels(sizes))
        builder = tfds.ImageFolder(str(view), shape=shape)
        return reading.read(f"folder:{given}", builder, image_size, detail=f"folder {given}")


@contextmanager
def _with_splits(root: Path) -> Iterator[Path]:
    """The folder as `ImageFolder` expects it: with one folder per split above the classes."""
    if (root / reading.TRAIN).is_dir() and _subfolders(root / reading.TRAIN):
        yield root
        return
    with tempfile.TemporaryDirectory(prefix="pnil_tf_") as directory:
        (Path(directory) / reading.TRAIN).symlink_to(root.resolve(), target_is_directory=True)
        yield Path(directory)


def _check_classes(view: Path, given: str) -> None:
    classes = {
        split.name: {folder.name for folder in _subfolders(split) if _image_files(folder)}
        for split in _subfolders(view)
    }
    for name in sorted(set().union(*classes.values())):
        if not name.isprintable():  # a name that is no UTF-8 is not, either
            raise UserError(
                f"folder:{given} has a class whose name cannot be shown. Received: {name!r}. "
                "Rename its folder."
            )
    train = classes.get(reading.TRAIN, set())
    if len(train) < 2:
        raise UserError(
            f"folder:{given} needs at least two class folders that hold .png, .jpg or .jpeg "
            f"images. Received: {', '.join(sorted(train)) or 'none'}. Lay the images out as "
            "PATH/train/CLASS/* and PATH/test/CLASS/*, or as PATH/CLASS/*."
        )
    for split in reading.TEST_SPLITS:
        unknown = classes.get(split, set()) - train
        if unknown:
            raise UserError(
                f"folder:{given} has classes in {split}/ that are not in train/: "
                f"{', '.join(sorted(unknown))}. Rename or remove them."
            )


def _images(view: Path) -> Iterator[Path]:
    for split in (reading.TRAIN, *reading.TEST_SPLITS):
        if (view / split).is_dir():
            for folder in _subfolders(view / split):
                yield from _image_files(folder)


def _subfolders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir())


def _image_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.lower().endswith(_SUFFIXES))


def _channels(sizes: set[tuple[int, int, int]]) -> int:
    return 1 if all(channels == 1 for _, _, channels in sizes) else 3


def _inspect(path: Path) -> tuple[int, int, int]:
    """Height, width and channels (1 or 3) from an image's header, without decoding it."""
    try:
        if not path.is_file():  # a pipe would be waited for
            raise OSError("no file")
        with path.open("rb") as file:
            start = file.read(26)
            if start.startswith(_PNG) and len(start) == 26:
                width, height = (int.from_bytes(start[at : at + 4], "big") for at in (16, 20))
                return height, width, 1 if start[25] in _PNG_GREY else 3
            content = start + file.read()
        height, width, channels = tf.io.extract_jpeg_shape(content).numpy().tolist()
    except (OSError, tf.errors.InvalidArgumentError) as error:
        raise UserError(
            f"{path.parent.name}/{path.name} is no readable PNG or JPEG image. Repair or remove it."
        ) from error
    return height, width, 1 if channels == 1 else 3
