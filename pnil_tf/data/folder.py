"""Images of the user's own, in class folders."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from pnil_tf.data import layout, memory, pictures
from pnil_tf.data.digests import digest
from pnil_tf.data.grain_stream import held_in_memory, require_grain
from pnil_tf.data.image_files import DECODED_BYTES, THREADS, FileReader, ImageFiles, fitted
from pnil_tf.data.image_set import ImageSet
from pnil_tf.data.looked_through import LookedThrough, Seen
from pnil_tf.data.types import READ_WHEN_NEEDED, Images, SourceData
from pnil_tf.errors import UserError, argument
from pnil_tf.progress import Progress

_NAMED = 5
_LOWEST_FULL_RANGE = 32768

_Result = TypeVar("_Result")


def load(
    given: str,
    image_size: tuple[int, int] | None,
    *,
    data_in_memory: str = "auto",
    skip_damaged: bool = False,
) -> SourceData:
    """Read `PATH/{train,val,test}/CLASS/*`, or `PATH/CLASS/*`; see `layout.find`.

    Images of `pictures.FORMATS` are read as they are shown (`pictures.decode`). They are grey
    (one channel) if all of them are, else RGB. Every one is decoded here, so that what cannot be
    used is known before the work begins; those that memory does not hold are decoded again
    whenever they are needed, and here once only, as long as their files stay as they are.

    Args:
        given: the path as the user gave it.
        image_size: `(height, width)` to resize to; needed if the images differ in size.
        data_in_memory: one of `IN_MEMORY`; see `DataSettings`.
        skip_damaged: whether images that cannot be used are left out, and listed.

    Raises:
        UserError: if there are no images in class folders, an image is damaged or cannot be read
            right, the sizes differ and none is asked for, or the splits do not fit together.
    """
    root = Path(given).expanduser()
    if not root.is_dir():
        raise UserError(f"There is no folder of images at folder:{given}. Check the path.")
    if data_in_memory == "false":
        require_grain()
    found = layout.find(root, given)
    look = _Look(found, given, skip_damaged)
    paths = look.paths  # of which some may be left out
    with pictures.no_limits():
        headers = look.at_each(lambda place, path: pictures.inspect(path))
        size = _size(list(headers.values()), given, image_size)
        # Whatever size is asked for, an image is decoded whole: a small file can be a vast image.
        sizes = {place: header.height * header.width for place, header in headers.items()}
        vast = max(sizes, key=sizes.__getitem__)
        name, header = found.shown(paths[vast]), headers[vast]
        decoded = DECODED_BYTES * sizes[vast]
        memory.check_room(
            f"folder:{given}",
            decoded,
            f"the pixels of {name} ({header.height} x {header.width})",
            "Remove or shrink images of such a size.",
        )
        look.threads = memory.at_once(decoded, THREADS)
        shape = (*size, 1 if all(header.grey for header in headers.values()) else 3)
        if held_in_memory(f"folder:{given}", len(headers), shape, data_in_memory):
            images, traits = _read(look, shape)
            how: tuple[str, ...] = ()
        else:
            images, traits = _looked_through(look, shape)
            how = (READ_WHEN_NEEDED,)
    _check_depth(traits, given)
    sets = _by_split(found, images)
    return SourceData(
        train=sets[layout.TRAIN],
        validation=sets.get(layout.VALIDATION),
        test=sets.get(layout.TEST),
        class_names=tuple(found.splits[layout.TRAIN]),
        detail=f"folder {given}",
        left_out=found.left_out(),
        remarks=(*_remarks(found, traits), *how),
    )


def _read(look: _Look, shape: tuple[int, int, int]) -> tuple[Images, list[pictures.Traits]]:
    """All images, decoded."""
    labels = look.labels
    images = np.empty((len(labels), *shape), np.uint8)

    def read(place: int, path: Path) -> pictures.Traits:
        pixels, traits = pictures.decode(path)
        images[place] = fitted(pixels, shape)
        return traits

    traits = look.at_each(read)
    if len(traits) < len(images):  # otherwise there is no need of a second copy
        places = list(traits)
        images, labels = images[places], labels[places]
    return ImageSet(images, labels), list(traits.values())


def _looked_through(
    look: _Look, shape: tuple[int, int, int]
) -> tuple[Images, list[pictures.Traits]]:
    """All images: those not seen before are decoded to be looked at, and forgotten again."""
    labels, paths = look.labels, look.paths

    known = LookedThrough(look.found.root, shape)

    def read(place: int, path: Path) -> Seen:
        found = known.find(path, labels[place])
        if found is not None:
            return found
        pixels, traits = pictures.decode(path)
        return digest(fitted(pixels, shape), labels[place]), traits

    seen = look.at_each(read, "looking through the images")
    places = list(seen)
    known.keep({paths[place]: found for place, found in seen.items()})
    reader = FileReader(
        [paths[place] for place in places],
        [look.found.shown(paths[place]) for place in places],
        labels[places],
        np.array([found for found, _ in seen.values()]),
        shape,
        look.threads,
    )
    return ImageFiles(reader, np.arange(len(places))), [traits for _, traits in seen.values()]


class _Look:
    """Looks at all images of a folder, and says which of them cannot be used."""

    def __init__(self, found: layout.Layout, given: str, skip_damaged: bool) -> None:
        self.found = found
        self._given, self._skip = given, skip_damaged
        self.threads = THREADS

    @property
    def paths(self) -> list[Path]:
        """The images, without those that have been left out."""
        return list(self.found.images)

    @property
    def labels(self) -> np.ndarray:
        """Their classes, int32."""
        names = {name: label for label, name in enumerate(self.found.splits[layout.TRAIN])}
        every = [
            np.full(len(paths), names[name])
            for classes in self.found.splits.values()
            for name, paths in classes.items()
        ]
        return np.concatenate(every).astype(np.int32)

    def at_each(
        self, work: Callable[[int, Path], _Result], title: str | None = None
    ) -> dict[int, _Result]:
        """What `work` makes of every image that can be used, by its place among `paths`.

        Args:
            work: is given the place and the file; raises `UnusableImageError`.
            title: of the progress that is shown; `None` for none.

        Raises:
            UserError: if some cannot be used and are not to be left out, or nothing is left of a
                class.
        """
        paths = self.paths
        unusable: dict[int, str] = {}

        def attempt(place: int) -> _Result | None:
            try:
                return work(place, paths[place])
            except pictures.UnusableImageError as error:
                unusable[place] = str(error)
                return None

        progress = None if title is None else Progress(title, len(paths), "file")
        results: dict[int, _Result] = {}
        pool = ThreadPoolExecutor(self.threads)
        try:
            for place, result in enumerate(pool.map(attempt, range(len(paths)))):
                if result is not None:
                    results[place] = result
                if progress is not None:
                    progress.advance_to(place + 1)
        finally:
            pool.shutdown(cancel_futures=True)  # an interrupted command ends at once
        if progress is not None:
            progress.close(f"{len(paths):,} files")
        if unusable:
            self._leave_out({paths[place]: why for place, why in sorted(unusable.items())})
        return results

    def _leave_out(self, unusable: dict[Path, str]) -> None:
        if self._skip:
            self.found.leave_out(unusable, self._given)
            return
        named = [f"{self.found.shown(path)} {why}" for path, why in unusable.items()][:_NAMED]
        more = f"; and {len(unusable) - _NAMED:,} more" if len(unusable) > _NAMED else ""
        raise UserError(
            f"folder:{self._given} has images that cannot be used: {'; '.join(named)}{more}. "
            f"Repair or remove them, or leave them out by {argument('skip_damaged', True)}."
        )


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


def _by_split(found: layout.Layout, images: Images) -> dict[str, Images]:
    """The splits, cut from the images in the order of `found.images`."""
    sets: dict[str, Images] = {}
    start = 0
    for split, classes in found.splits.items():
        end = start + sum(len(paths) for paths in classes.values())
        sets[split] = images.part(slice(start, end))
        start = end
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
