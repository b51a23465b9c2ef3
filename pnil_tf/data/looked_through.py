"""What was found out about the images of a folder, so that no start decodes a file once more."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import PIL
import tensorflow as tf
from PIL import features

from pnil_tf.arrays import read_sealed, write_arrays
from pnil_tf.data.pictures import Traits
from pnil_tf.version import __version__

# A file may still be written to within the grain of its system's clock.
_SETTLED_NS = 2 * 10**9
# Folders and sizes that are remembered; those that were looked through longest ago are forgotten.
_MOST = 50

logger = logging.getLogger(__name__)

Seen = tuple[str, Traits]
"""The digest of an image that is brought to its shape, and how it came to be."""


class LookedThrough:
    """What earlier starts have found out about the files of a folder.

    A file is taken for what it was if its size and both of its times are the same. Whoever uses the
    image later compares it with the digest, so a file that only looks the same is found out then.
    What cannot be read or written is done without: it only saves time.

    Args:
        root: The folder.
        image_shape: `(height, width, channels)` that each image is brought to.
    """

    def __init__(self, root: Path, image_shape: Sequence[int]) -> None:
        # Another decoder may make other pixels of a file.
        decoders = (PIL.__version__, features.version("jpg"), tf.__version__, __version__)
        about = repr((str(root.resolve()), tuple(image_shape), decoders))
        name = hashlib.sha256(about.encode()).hexdigest()[:32]
        self._name = f"{name}.npz"
        self._root = root
        self._known = self._read()
        self._stamps: dict[Path, tuple[int, ...]] = {}

    def find(self, path: Path, label: int) -> Seen | None:
        """What is known of a file that has not changed, or None; `label` is part of the digest."""
        try:
            status = path.stat()
        except OSError:
            return None
        stamp = (int(label), status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if time.time_ns() - max(stamp[2:]) > _SETTLED_NS:
            self._stamps[path] = stamp
        stored, seen = self._known.get(str(path.relative_to(self._root)), (None, None))
        return seen if stored == stamp else None

    def keep(self, seen: Mapping[Path, Seen]) -> None:
        """Remembers what was found out about files that `find` was asked for."""
        kept = {path: one for path, one in seen.items() if path in self._stamps}
        arrays = {
            "names": np.array([str(path.relative_to(self._root)) for path in kept], np.str_),
            "stamps": np.array([self._stamps[path] for path in kept], np.int64),
            "digests": np.array([found for found, _ in kept.values()], np.str_),
            "traits": np.array([_numbers(traits) for _, traits in kept.values()], np.int32),
        }
        try:
            folder = _home()
            folder.mkdir(parents=True, exist_ok=True)
            write_arrays(folder / self._name, arrays, sealed=True, compressed=False)
            _forget_the_oldest(folder)
        except OSError as error:
            logger.debug("What was found out about the images is not kept: %s", error)

    def _read(self) -> dict[str, tuple[tuple[int, ...], Seen]]:
        try:
            arrays = read_sealed(_home() / self._name)
            columns = (arrays[name].tolist() for name in ("names", "stamps", "digests", "traits"))
            return {
                name: (tuple(stamp), (found, _traits(numbers)))
                for name, stamp, found, numbers in zip(*columns, strict=True)
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.debug("What was found out about the images cannot be read: %s", error)
            return {}


def _home() -> Path:
    """Where programs keep what they could find out again, by the XDG base directory standard.

    Raises:
        OSError: If there is no such place: whoever runs this has no home.
    """
    try:
        kept = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(str(error)) from error
    return kept / "pnil_tf" / "images"


def _forget_the_oldest(folder: Path) -> None:
    files = sorted(folder.glob("[!.]*.npz"), key=lambda file: file.stat().st_mtime)
    for file in files[:-_MOST]:
        file.unlink(missing_ok=True)


def _numbers(traits: Traits) -> list[int]:
    deepest = -1 if traits.deepest is None else traits.deepest
    return [deepest, int(traits.transparent), int(traits.cmyk), int(traits.turned)]


def _traits(numbers: Sequence[int]) -> Traits:
    deepest, transparent, cmyk, turned = numbers
    return Traits(None if deepest < 0 else deepest, bool(transparent), bool(cmyk), bool(turned))
