"""Arrays in `.npz` files that are whole or absent."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np

from pnil_tf.files import replacing, seal, unsealed

Arrays: TypeAlias = dict[str, np.ndarray]
"""Arrays by name."""


def write_arrays(
    file: Path, arrays: Mapping[str, np.ndarray], *, sealed: bool = False, compressed: bool = True
) -> None:
    """Writes an `.npz` file without pickles, whole or not at all.

    Args:
        file: The file.
        arrays: What it holds.
        sealed: Whether its checksum is appended, which `read_sealed` compares.
        compressed: Whether time is spent on making it small; weights hardly get smaller.

    Raises:
        ValueError: If an array holds objects.
    """
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with replacing(file) as temporary:
        # Not by `np.savez`: before NumPy 2.1 it pickles objects, and leaves the archive open when
        # the disk is full.
        with open(temporary, "wb") as whole:
            archive = zipfile.ZipFile(whole, "w", method)
            try:
                for name, array in arrays.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
                archive.close()
            except BaseException:
                archive.fp = None  # given up: with a member half written it cannot be closed
                raise
        if sealed:
            seal(temporary)


def read_sealed(file: Path) -> Arrays:
    """Returns the arrays of a file that was written `sealed`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not as it was written.
    """
    with np.load(io.BytesIO(unsealed(file)), allow_pickle=False) as arrays:
        return dict(arrays)
