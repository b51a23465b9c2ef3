"""Folders of files as large as photographs, to see what images of that size cost.

They are small real images, enlarged, lit unevenly and made noisy: as large and as dear to decode as
a camera's, and no test of how well anything recognises photographs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from pnil_tf.data import DataSettings, load
from pnil_tf.data.types import Images
from pnil_tf.progress import Progress

_SOURCE = "cifar10"
_QUALITY = 90
_TEST_SHARE = 0.1


def write_photographs(
    folder: Path, images: Images, names: list[str], count: int, side: int
) -> None:
    """Writes `folder/{train,test}/CLASS/*.jpg`, every tenth file a test image.

    Args:
        folder: Where to; it must not exist.
        images: Small images; used again, with other light and noise, if they are too few.
        names: Of the classes.
        count: How many files.
        side: Of each, in pixels.
    """
    generator = np.random.default_rng(0)
    progress = Progress("photographs", count, "file")
    for number in range(count):
        row = number % len(images)
        small = images.rows(slice(row, row + 1))
        split = "test" if number % round(1 / _TEST_SHARE) == 0 else "train"
        place = folder / split / names[int(small.labels[0])]
        place.mkdir(parents=True, exist_ok=True)
        pixels = _enlarged(small.images[0], side, generator)
        Image.fromarray(pixels).save(place / f"{number:06d}.jpg", quality=_QUALITY)
        progress.advance_to(number + 1)
    progress.close(f"{count:,} files in {folder}")


def _enlarged(small: np.ndarray, side: int, generator: np.random.Generator) -> np.ndarray:
    colours = np.broadcast_to(small, (*small.shape[:2], 3))
    large = np.asarray(Image.fromarray(colours).resize((side, side), Image.Resampling.BICUBIC))
    top, bottom = generator.uniform(0.7, 1.3, 2)
    light = np.linspace(float(top), float(bottom), side)[:, None, None]
    noise = generator.normal(0.0, 6.0, large.shape)
    return np.clip(large * light + noise, 0, 255).astype(np.uint8)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"Give a whole number from 1 on. Received: {text!r}.")
    return int(text)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("count", type=_positive)
    parser.add_argument("side", type=_positive)
    asked = parser.parse_args()
    data = load(DataSettings(_SOURCE))
    asked.folder.mkdir(parents=True)
    write_photographs(asked.folder, data.train, list(data.class_names), asked.count, asked.side)


if __name__ == "__main__":
    _main()
