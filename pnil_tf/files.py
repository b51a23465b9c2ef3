"""Files that are either whole or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pnil_tf.errors import UserError


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it to `path` when the block succeeds.

    The temporary name keeps the suffix, since some writers choose their format by it. If the
    block fails, an existing file at `path` stays as it was and the temporary one is removed.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # the bytes must be on the disk before the name is
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields an empty folder beside `path`; renames it to `path` when the block succeeds.

    A folder at `path` is replaced; where `path` is a link, the folder it leads to. If the block
    fails, it stays as it was and the new one is removed.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    # Within a folder of its own the new one has the rights that any folder gets.
    temporary, old = place / "new", place / "old"
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with open(file, "rb+") as stream:
                    os.fsync(stream.fileno())
        if path.exists():
            path.rename(old)  # no file system replaces a folder that holds something
        temporary.rename(path)
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        shutil.rmtree(place, ignore_errors=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes UTF-8 text, whatever the locale."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes a value as JSON that any reader accepts (no NaN, no infinity)."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


_MOST_BYTES = 2**26  # of a JSON file, hundreds of times what any of ours takes


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a JSON file that holds an object, as all of ours do.

    Raises:
        UserError: If the file is absent, or no JSON object of finite numbers.
    """
    if not Path(path).is_file():  # a pipe would be waited for
        raise UserError(f"There is no file {str(path)!r}. Check the path.")
    with understood(path):
        if Path(path).stat().st_size > _MOST_BYTES:
            raise ValueError("it is larger than any that we write")
        text = Path(path).read_text(encoding="utf-8")
        value = json.loads(text, parse_constant=_finite, parse_float=_finite)
        if not isinstance(value, dict):
            raise ValueError(f"it holds a {type(value).__name__}, not an object")
        return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value


@contextlib.contextmanager
def understood(path: str | os.PathLike[str]) -> Iterator[None]:
    """For code that reads what a file says: turns its errors into one sentence about the file.

    Raises:
        UserError: If the file does not say what the code expects.
    """
    try:
        yield
    except UserError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
    except RecursionError:
        reason = "it is nested too deeply"
    else:
        return
    raise UserError(
        f"{path} does not say what it should ({reason[:300]}). It was damaged; make it anew."
    )


def refuse_file_in_the_way(flag: str, path: str | os.PathLike[str]) -> None:
    """Refuses a path that can become no folder, since a file is there or above.

    Args:
        flag: Name of the flag that the path came from.
        path: The folder to be.

    Raises:
        UserError: If there is such a file.
    """
    places = (Path(path).absolute(), *Path(path).absolute().parents)
    there = next((place for place in places if place.exists()), Path("/"))
    if not there.is_dir():
        raise UserError(
            f"--{flag} must be a folder. Received: {str(path)!r}, and {str(there)!r} is a file. "
            "Choose another one."
        )


def refuse_odd_entries(folder: Path) -> None:
    """Refuses a folder to write in that holds a link to a place outside, or a pipe or device.

    Args:
        folder: The folder. It may be a link itself, and need not exist.

    Raises:
        UserError: If there is such an entry, however deep.
    """
    inside = folder.resolve()
    for place, folders, files in os.walk(inside):
        for entry in (Path(place, name) for name in (*folders, *files)):
            if entry.is_symlink():
                # Unlike `resolve`, this bears a link to itself.
                leads_out = not Path(os.path.realpath(entry)).is_relative_to(inside)
                what = "a link that leads out of it" if leads_out else None
            else:
                what = None if entry.is_file() or entry.is_dir() else "neither file nor folder"
            if what:
                raise UserError(
                    f"{str(folder)!r} must hold its files itself. Received: {entry.name!r} in it, "
                    f"{what}. Remove it; the folder itself may be a link."
                )
