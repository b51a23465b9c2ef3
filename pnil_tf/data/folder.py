"""Images of the user's own, in class folders."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from pnil_tf.data import layout, memory, pictures
from pnil_tf.data.resizing import resize
from pnil_tf.data.types import ImageSet, SourceData
from pnil_tf.errors import UserError

# For each pixel of an image: four channels, its bytes, twice with 16 bits, and floats to resize.
_DECODED_BYTES = 4 * (1 + 2 * 2 + 4)
_THREADS = min(4, os.cpu_count() or 1)
_NAMED = 5
_LOWEST_FULL_RANGE = 32768

_Result = TypeVar("_Result")


def load(given: str, image_size: tuple[int, int] | None) -> SourceData:
    """Read `PATH/{train,val,test}/CLASS/*`, or `PATH/CLASS/*`; see `layout.find`.

    Images of `pictures.FORMATS` are read as they are shown (`pictures.decode`). They are grey
    (one channel) if all of them are, else RGB.

    Args:
        given: the path as the user gave it.
        image_size: `(height, width)` to resize to; needed if the images differ in size.

    Raises:
        UserError: if there are no images in class folders, an image is damaged or cannot be read
            right, the sizes differ and none is asked for, or the splits do not fit together.
    """
    root = Path(given).expanduser()
    if not root.is_dir():
        raise UserError(f"There is no folder of images at folder:{given}. Check the path.")
    found = layout.find(root, given)
    paths = list(found.images)
    with pictures.no_limits():
        headers = _each(lambda place: pictures.inspect(paths[place]), found, given)
        size = _size(headers, given, image_size)
        # Whatever size is asked for, an image is decoded whole: a small file can be a vast image.
        largest = max(headers, key=lambda header: header.height * header.width)
        memory.check_room(
            f"folder:{given}",
            _THREADS * _DECODED_BYTES * largest.height * largest.width,
            f"its largest images, of {largest.height} x {largest.width} pixels,",
            "Remove or shrink them.",
        )
        channels = 1 if all(header.grey for header in headers) else 3
        memory.check_fits(f"folder:{given}", len(paths), (*size, channels))
        images = np.empty((len(paths), *size, channels), np.uint8)

        def read(place: int) -> pictures.Traits:
            pixels, traits = pictures.decode(paths[place])
            images[place] = pixels if pixels.shape[:2] == size else resize(pixels, size).numpy()
            return traits

        traits = _each(read, found, given)
    _check_depth(traits, given)
    names = tuple(found.splits[layout.TRAIN])
    sets = _image_sets(found, images, names)
    return SourceData(
        train=sets[layout.TRAIN],
        validation=sets.get(layout.VALIDATION),
        test=sets.get(layout.TEST),
        class_names=names,
        detail=f"folder {given}",
        left_out=found.left_out(),
        remarks=_remarks(found, traits),
    )


def _each(work: Callable[[int], _Result], found: layout.Layout, given: str) -> list[_Result]:
    """What `work` makes of every image, by its place; names all images that cannot be used."""
    paths = list(found.images)
    unusable = []

    def attempt(place: int) -> _Result | None:
        try:
            return work(place)
        except pictures.UnusableImageError as error:
            unusable.append((place, str(error)))
            return None

    pool = ThreadPoolExecutor(_THREADS)
    try:
        results = list(pool.map(attempt, range(len(paths))))
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupted command ends at once
    if unusable:
        named = [
            f"{found.shown(paths[place])} {reason}" for place, reason in sorted(unusable)[:_NAMED]
        ]
        more = f"; and {len(unusable) - _NAMED:,} more" if len(unusable) > _NAMED else ""
        raise UserError(
            f"folder:{given} has images that cannot be used: {'; '.join(named)}{more}. Repair or "
            "remove them."
        )
    return [result for result in results if result is not None]


def _size(
    headers: list[pictures.Header], given: str, image_size: tuple[int, int] | None
) -> tuple[int, int]:
    if image_size is not None:
        return image_size
    heights, widths = {one.height for one in headers}, {one.width for one in headers}
    if len(heights) > 1 or len(widths) > 1:
        raise UserError(
            f"The images in folder:{given} have several sizes, from {min(heights)} x "
            f"{min(widths)} to {max(heights)} x {max(widths)}, and a network needs one. Give "
            "an image size, for instance 64x64."
        )
    return heights.pop(), widths.pop()


def _check_depth(traits: list[pictures.Traits], given: str) -> None:
    """Refuse 16-bit images that use a part of their range: how bright they are is not known."""
    highest = max((one.deepest for one in traits if one.deepest is not None), default=None)
    if highest is not None and highest < _LOWEST_FULL_RANGE:
        raise UserError(
            f"The 16-bit images in folder:{given} go up to {highest:,} of 65,535, so they would "
            "come out dark. Scale them to the whole range, or save them with 8 bits."
        )


def _image_sets(
    found: layout.Layout, images: np.ndarray, names: tuple[str, ...]
) -> dict[str, ImageSet]:
    """The splits, cut from the images in the order of `found.images`."""
    sets, start = {}, 0
    for split, classes in found.splits.items():
        counts = [len(paths) for paths in classes.values()]
        labels = np.repeat([names.index(name) for name in classes], counts).astype(np.int32)
        sets[split] = ImageSet(images[start : start + len(labels)], labels)
        start += len(labels)
    return sets


def _remarks(found: layout.Layout, traits: list[pictures.Traits]) -> tuple[str, ...]:
    counted = {
        "in subfolders, counted for the class above": found.nested,
        "with transparent parts, laid on white": sum(one.transparent for one in traits),
        "with 16 bits per channel, divided by 257": sum(one.deepest is not None for one in traits),
        "in the four colours of print, converted to RGB": sum(one.cmyk for one in traits),
        "turned upright, as their EXIF data say": sum(one.turned for one in traits),
    }
    return tuple(
        f"{n:,} {'image' if n == 1 else 'images'} {what}" for what, n in counted.items() if n
    )
