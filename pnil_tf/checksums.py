"""The checksums of a folder of files, as `sha256sum --check SHA256SUMS` reads them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pnil_tf.errors import UserError
from pnil_tf.files import sha256_of, understood, write_text

CHECKSUMS = "SHA256SUMS"
_MOST_BYTES = 2**20


def write_checksums(folder: Path, skip: Collection[str] = ()) -> None:
    """Writes the SHA-256 digest of every file of a folder into the folder.

    Args:
        folder: The folder.
        skip: Names of files that people may change.
    """
    names = [name for name in _names(folder) if name not in skip]
    lines = [f"{sha256_of(folder / name)}  {name}\n" for name in names]
    write_text(folder / CHECKSUMS, "".join(lines))


def foreign_files(folder: Path, known: Collection[str]) -> list[str]:
    """Returns the files of a folder that its own list of checksums does not name, sorted.

    Args:
        folder: The folder. Without a list in it, all of its files are foreign.
        known: Names of further files that are not.
    """
    listed = set(_stated(folder)) | {CHECKSUMS} if (folder / CHECKSUMS).is_file() else set()
    return [name for name in _names(folder) if name not in listed | set(known)]


def compare_checksums(folder: Path, needed: Collection[str]) -> None:
    """Compares the files of a folder with what `write_checksums` wrote, if it did.

    Args:
        folder: The folder.
        needed: Names of files that will be read, and thus must be among those compared.

    Raises:
        UserError: If one is another, or is gone.
    """
    file = folder / CHECKSUMS
    if not file.exists():
        return
    if not file.is_file():
        raise UserError(f"{str(file)!r} must be a file, and is none. Remove it.")
    stated = _stated(folder)
    there = set(_names(folder))
    for name in {*stated, *needed}:
        if name not in there:
            found = f"no {name[:100]}"
        elif sha256_of(folder / name) != stated.get(name):
            found = f"a {name} that is not the one of {CHECKSUMS}"
        else:
            continue
        raise UserError(
            f"{str(folder)!r} was damaged or changed since it was written. Received: {found}. "
            f"Export it again; if the change is meant, remove {CHECKSUMS}."
        )


def _stated(folder: Path) -> dict[str, str]:
    """The digests that the list of a folder states, by name."""
    file = folder / CHECKSUMS
    with understood(file):
        if file.stat().st_size > _MOST_BYTES:
            raise ValueError("it is larger than any that we write")
        pairs = [line.split("  ", 1) for line in file.read_text("utf-8").splitlines()]
        return {name: digest for digest, name in pairs}


def _names(folder: Path) -> list[str]:
    return sorted(f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file())
