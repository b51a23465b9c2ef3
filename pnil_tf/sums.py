"""The checksums of a folder of files, as `sha256sum --check SHA256SUMS` reads them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pnil_tf.errors import UserError
from pnil_tf.files import sha256_of, understood, write_text

SUMS = "SHA256SUMS"


def write_sums(folder: Path, skip: Collection[str] = ()) -> None:
    """Writes the SHA-256 digest of every file of a folder into the folder.

    Args:
        folder: The folder.
        skip: Names of files that people may change.
    """
    names = sorted(
        file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()
    )
    lines = [f"{sha256_of(folder / name)}  {name}\n" for name in names if name not in skip]
    write_text(folder / SUMS, "".join(lines))


def compare_sums(folder: Path) -> None:
    """Compares the files of a folder with what `write_sums` wrote, if it did.

    Raises:
        UserError: If one is another, or is gone.
    """
    file = folder / SUMS
    if not file.is_file():
        return
    with understood(file):
        pairs = [line.split("  ", 1) for line in file.read_text("utf-8").splitlines()]
        stated = {name: digest for digest, name in pairs}
    for name, digest in stated.items():
        there = (folder / name).is_file()
        if not there or sha256_of(folder / name) != digest:
            raise UserError(
                f"{str(folder)!r} was damaged or changed since it was written. Received: a {name} "
                f"that is {'not the one of ' + SUMS if there else 'missing'}. Export it anew; if "
                f"the change is meant, remove {SUMS}."
            )
