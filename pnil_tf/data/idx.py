"""The IDX files of the MNIST family, read strictly."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from pnil_tf.data import memory
from pnil_tf.data.image_set import ImageSet
from pnil_tf.data.splits import content_sha256
from pnil_tf.data.types import SourceData
from pnil_tf.errors import UserError

# The family shares its file names, so a folder says nothing about which member it holds; the sum
# over all pixels of the test images does.
TEST_PIXEL_SUMS = {264923200: "mnist", 573469082: "fashion_mnist"}
# Plain IDX files carry no checksum; these are of all images as they were published.
PUBLISHED_SHA256 = {
    "mnist": "2cda1e5d66e2c91ea1789aaca51ec04dc06ded28129becb089defe72ee14959e",
    "fashion_mnist": "831db8a2e7f34c23c808a0942d105e0d300c633005d2b1166995379c9eb9e0e9",
}
PUBLISHED_COUNTS = (60_000, 10_000)
CLASS_NAMES = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}
# Besides the plain name, what torchvision and Debian call their folders.
FOLDERS = {
    "mnist": ("mnist", "MNIST"),
    "fashion_mnist": ("fashion_mnist", "fashion-mnist", "FashionMNIST"),
    "kmnist": ("kmnist", "KMNIST"),
}
DEBIAN_FOLDERS = {"fashion_mnist": Path("/usr/share/datasets/fashion-mnist")}
DEBIAN_PACKAGE = "dataset-fashion-mnist"

_STEMS = ("train-images", "train-labels", "t10k-images", "t10k-labels")
_UINT8 = 0x08
_RANKS = range(1, 5)


def folders(name: str, data_dirs: Sequence[Path]) -> list[Path]:
    """Every folder in which the IDX files of `name` may lie, in the order of the search."""
    found = []
    for data_dir in data_dirs:
        found.append(data_dir)
        for folder in FOLDERS.get(name, ()):
            found += [data_dir / folder, data_dir / folder / "raw"]
    if name in DEBIAN_FOLDERS:
        found.append(DEBIAN_FOLDERS[name])
    return found


def load(name: str, data_dirs: Sequence[Path]) -> SourceData | None:
    """Read the first complete set of IDX files of `name`.

    Returns:
        The images, or None if no folder holds any IDX file, or IDX is not the form of this set.

    Raises:
        UserError: if a set is incomplete, broken, or another member of the family.
    """
    if name not in CLASS_NAMES:
        return None
    for folder in folders(name, data_dirs):
        paths = [_find(folder, stem) for stem in _STEMS]
        if not any(paths):
            continue
        missing = [stem for stem, path in zip(_STEMS, paths, strict=True) if path is None]
        if missing:
            raise UserError(
                f"The IDX files of '{name}' are incomplete: {folder} has no "
                f"{', '.join(missing)} file. Add the missing files, or remove the others."
            )
        arrays = [read(path) for path in paths if path is not None]
        _check_identity(name, folder, arrays[2])
        debian = folder == DEBIAN_FOLDERS.get(name)
        train = _image_set(name, folder, arrays[0], arrays[1])
        test = _image_set(name, folder, arrays[2], arrays[3])
        _check_published(name, folder, train, test)
        return SourceData(
            train=train,
            test=test,
            class_names=CLASS_NAMES[name],
            detail=f"IDX files of Debian's {DEBIAN_PACKAGE}" if debian else "IDX files",
        )
    return None


def read(path: Path) -> np.ndarray:
    """Read one IDX file of bytes, plain or gzipped.

    Returns:
        uint8, of the shape that the file's header states.

    Raises:
        UserError: if the file cannot be read, is no IDX file of bytes, or is too short or long.
    """
    try:
        opened: Any = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rb") as file:
            return _read(path, file)
    except (OSError, EOFError, zlib.error) as error:
        raise _broken(path, f"it cannot be read ({error})") from error


def _read(path: Path, file: IO[bytes]) -> np.ndarray:
    """Reads no more than the header announces: a small gzip file can hold more than the memory."""
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] != _UINT8 or start[3] not in _RANKS:
        raise _broken(path, f"it starts with {start.hex(' ') or 'nothing'}, not 00 00 08 NN")
    rank = start[3]
    header = file.read(4 * rank)
    if len(header) < 4 * rank:
        raise _broken(path, f"its header of {4 + 4 * rank} bytes ends after {4 + len(header)}")
    shape = struct.unpack(f">{rank}I", header)
    needed = math.prod(shape)
    memory.check_room(str(path), needed, "its values", "Fetch it again.")
    content = file.read(needed)
    if len(content) < needed or file.read(1):
        has = len(content) if len(content) < needed else "more"
        raise _broken(path, f"its shape {shape} needs {needed} bytes, it has {has}")
    try:
        return np.frombuffer(content, np.uint8).reshape(shape)
    except ValueError as error:  # of a size 0 beside others that NumPy cannot multiply
        raise _broken(path, f"its shape {shape} is that of no array") from error


def _find(folder: Path, stem: str) -> Path | None:
    rank = 3 if stem.endswith("images") else 1
    for separator in ("-", "."):
        for suffix in ("", ".gz"):
            path = folder / f"{stem}{separator}idx{rank}-ubyte{suffix}"
            if path.is_file():
                return path
    return None


def _image_set(name: str, folder: Path, images: np.ndarray, labels: np.ndarray) -> ImageSet:
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels) or not images.size:
        raise UserError(
            f"The IDX files in {folder} do not belong together: images of shape {images.shape}, "
            f"labels of shape {labels.shape}. Fetch the four files of '{name}' again."
        )
    classes = len(CLASS_NAMES[name])
    if labels.max() >= classes:
        raise UserError(
            f"The IDX labels in {folder} go up to {labels.max()}, but '{name}' has {classes} "
            f"classes. Fetch the four files of '{name}' again."
        )
    return ImageSet(images[..., np.newaxis], labels.astype(np.int32))


def _check_identity(name: str, folder: Path, test_images: np.ndarray) -> None:
    member = TEST_PIXEL_SUMS.get(int(test_images.sum(dtype=np.int64)), name)
    if member != name:
        raise UserError(
            f"The IDX files in {folder} are those of '{member}', not of '{name}'. Point the data "
            f"directory elsewhere, or load '{member}'."
        )


def _check_published(name: str, folder: Path, train: ImageSet, test: ImageSet) -> None:
    """Refuse a set of the published size with other content; smaller ones are somebody's own."""
    published = PUBLISHED_SHA256.get(name)
    if published is None or (len(train), len(test)) != PUBLISHED_COUNTS:
        return
    found = content_sha256(train, test)
    if found != published:
        raise UserError(
            f"The IDX files in {folder} are damaged: their images are not those of '{name}' as "
            f"published. Received: images with the sha256 {found}. Fetch the four files again, or "
            "give images of your own with folder:PATH."
        )


def _broken(path: Path, reason: str) -> UserError:
    return UserError(f"{path} is no complete IDX file: {reason}. Fetch it again.")
