"""Data sets that TensorFlow Datasets has prepared on this disk, or can prepare by a download."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pnil_tf.data import feature_safety, jpeg, network, reading
from pnil_tf.data.names import NAME
from pnil_tf.data.types import SourceData
from pnil_tf.errors import UserError

# Published without loss: a copy stored as JPEG has other pixels, and its figures must say so.
LOSSLESS = {
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "kmnist": "KMNIST",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "svhn_cropped": "SVHN",
}

_VERSION = re.compile(r"\d+\.\d+\.\d+", re.ASCII)


def find(name: str, places: Sequence[Path]) -> Any | None:
    """The builder of a data set that is prepared in one of `places`; never asks the network.

    Returns:
        A `tfds.core.DatasetBuilder`, or None.
    """
    import tensorflow_datasets as tfds

    # TensorFlow Datasets would look for 'huggingface:mnist' on the network.
    if not NAME.fullmatch(name):
        return None
    base, _, version = name.partition(":")
    for place in places:
        # By what lies there, so that any version will do and a set needs no code of its own.
        versions = [
            folder
            for folder in _folders(place / base)
            if _VERSION.fullmatch(folder.name)
            and (not version or folder.name == version)
            and (folder / "dataset_info.json").is_file()
            and (folder / "features.json").is_file()
        ]
        if versions:
            return _from_directory(max(versions, key=_version_of))
        # By its code, which knows the default configuration, or by what lies there all the same.
        feature_safety.check_all(place / re.split("[/:]", name)[0])
        with contextlib.suppress(tfds.core.DatasetNotFoundError, ValueError):
            builder = tfds.builder(name, data_dir=str(place))
            if builder.is_prepared():
                return builder
    return None


def read(
    name: str, builder: Any, image_size: tuple[int, int] | None, data_in_memory: str = "auto"
) -> SourceData:
    """Read a prepared data set; see `reading.read`."""
    missing = [
        Path(path).name
        for split in builder.info.splits.values()
        for path in split.filepaths
        if not os.path.isfile(path)  # a pipe would be waited for
    ]
    if missing:
        raise UserError(
            f"The prepared '{name}' in {builder.data_dir} is incomplete: {len(missing)} of its "
            f"files are missing, the first is {missing[0]}. Prepare the data set again."
        )
    data = reading.read(name, builder, image_size, builder.info.full_name, data_in_memory)
    title = LOSSLESS.get(builder.info.name)
    quality = jpeg.quality(reading.first_encoded_image(name, builder)) if title else None
    if quality is None:
        return data
    return dataclasses.replace(data, note=f"{title} (JPEG q{quality})")


def from_code(name: str, place: Path) -> Any:
    """The builder of a data set that is yet to be prepared in the data directory `place`.

    Raises:
        UserError: if it cannot be set up.
    """
    import tensorflow_datasets as tfds

    # Some sets import further packages, others ask for a configuration.
    try:
        return tfds.builder(name, data_dir=str(place))
    except Exception as error:
        raise UserError(f"The data set '{name}' cannot be set up: {error}.") from error


def unreachable_hosts(builder: Any) -> list[str]:
    """The hosts of a data set's files that do not answer now, known within seconds."""
    urls = list(builder.url_infos or {}) or [builder.info.homepage or ""]
    first_by_host: dict[str, str] = {}
    for url in urls:
        first_by_host.setdefault(urlsplit(url).hostname or "an unknown host", url)
    with ThreadPoolExecutor(max_workers=min(32, len(first_by_host))) as pool:
        answered = list(pool.map(network.answers, first_by_host.values()))
    return [host for host, ok in zip(first_by_host, answered, strict=True) if not ok]


def download(builder: Any, place: Path) -> None:
    """Download a data set and prepare it in the data directory `place`.

    Raises:
        UserError: if anything goes wrong on the way.
    """
    import tensorflow_datasets as tfds

    name = builder.info.full_name
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    logging.getLogger(__name__).warning("Downloading '%s' into %s ...", name, place)
    # The builders download, unpack and convert in their own ways, and fail in as many.
    try:
        # Nothing is used whose SHA-256 is not known beforehand, as that of prepared copies is not.
        checked = tfds.download.DownloadConfig(
            force_checksums_validation=True, try_download_gcs=False
        )
        builder.download_and_prepare(download_config=checked)
    except Exception as error:
        raise UserError(
            f"The download of '{name}' into {place} failed: {error}. Try again, or prepare it "
            "on another machine and give its folder as the data directory."
        ) from error


def _from_directory(folder: Path) -> Any:
    import tensorflow_datasets as tfds

    feature_safety.check(folder / "features.json")
    # Its two JSON files are parsed by several libraries, each with its own errors.
    try:
        return tfds.builder_from_directory(str(folder))
    except Exception as error:
        raise UserError(
            f"The prepared data set in {folder} cannot be read: {error}. Prepare it again."
        ) from error


def _folders(path: Path) -> list[Path]:
    try:
        return [folder for folder in path.iterdir() if folder.is_dir()]
    except OSError:
        return []


def _version_of(folder: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in folder.name.split("."))
