"""Files that are either whole or absent, known by a checksum, and written by one process at a time.

They are written under a temporary name, then renamed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from pnil_tf.errors import UserError

LOCK = ".lock"
"""The file in a folder by which `lock_folder` keeps it."""
# As `replacing` and TensorFlow's checkpoints make them; a user's own `.notes.tmp` is none.
_TEMPORARY = re.compile(r"\.(.+\.\d+|step-\d+)\.tmp.*", re.DOTALL)
_CHECKSUM = "sha256"
_DIGEST_BYTES = hashlib.sha256().digest_size


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
        sync(temporary)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is not None and error.filename is None:  # as when the disk is full
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Has a file's bytes on the disk, where they must be before its name is."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def is_leftover(name: str) -> bool:
    """Whether a name is that of a temporary file, as `replacing` makes them."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files in a folder whose process was killed.

    Only who keeps the folder locked may call it: the files of a living process look the same.
    """
    for path in folder.glob(".*"):
        if not is_leftover(path.name):
            continue
        if path.is_dir() and not path.is_symlink():  # TensorFlow's, half a checkpoint
            shutil.rmtree(path)
        else:
            path.unlink()


def tidy(folder: Path) -> None:
    """Removes the temporary files of killed processes in a folder that nobody keeps."""
    if any(is_leftover(path.name) for path in folder.glob(".*")):
        with contextlib.suppress(UserError, OSError), lock_folder(folder):
            remove_leftovers(folder)


def lock_folder(folder: Path, wait: float = 0.0) -> IO[str]:
    """Keeps a folder for this process.

    Args:
        folder: An existing folder.
        wait: Seconds that another process is given to let it go.

    Returns:
        An open file: closing it lets the folder go, and so does the end of the process.

    Raises:
        UserError: If another process keeps it.
    """
    give_up = time.monotonic() + wait
    file = _opened_lock(folder)
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_in_place(file, folder):
                return file
            # Whoever kept the folder has put it away in the meantime.
            file.close()
            file = _opened_lock(folder)
        except BlockingIOError as error:
            if time.monotonic() >= give_up:
                file.close()
                raise UserError(
                    f"Another process works in {str(folder)!r}. Wait for it to end, "
                    "or choose another folder."
                ) from error
            time.sleep(0.2)


def _opened_lock(folder: Path) -> IO[str]:
    # Nothing is lost of what somebody else calls so, and a link to another's file not followed.
    file = folder / LOCK
    try:
        return open(os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "w")
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise UserError(f"{str(file)!r} must be a file, and is a link. Remove it.") from error


def _is_in_place(file: IO[str], folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(folder / LOCK))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def replacing_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields an empty folder beside `path`; renames it to `path` when the block succeeds.

    A folder at `path` is replaced; where `path` is a link, the folder it leads to. If the block
    fails, it stays as it was and the new one is removed. If the process is killed, what it left
    is put right by `restore_folder`, or by the next replacement.

    Raises:
        UserError: If another process replaces the same folder.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    workshop = _workshop(path)
    workshop.mkdir(exist_ok=True)
    try:
        lock = lock_folder(workshop)
    except OSError:
        _clear_away(workshop)
        raise
    with lock:
        _put_right(path)
        # Within a folder of its own the new one has the rights that any folder gets.
        new, old = workshop / _NEW, workshop / _OLD
        try:
            new.mkdir()
            yield new
            for file in new.rglob("*"):
                if file.is_file():
                    sync(file)
            if path.exists():
                path.rename(old)  # no file system replaces a folder that holds something
            new.rename(path)
        finally:
            _put_right(path)
            _clear_away(workshop)


def restore_folder(path: str | os.PathLike[str]) -> None:
    """Puts right what a killed `replacing_folder` left: the old folder, or else the new one.

    Raises:
        UserError: If another process replaces the folder at this moment.
    """
    path = Path(os.path.realpath(path))
    workshop = _workshop(path)
    if workshop.is_dir():
        with lock_folder(workshop):
            _put_right(path)
            _clear_away(workshop)


_NEW, _OLD, _DONE = "new", "old", "done"


def _workshop(path: Path) -> Path:
    return path.with_name(f".{path.name}.replacing")


def _put_right(path: Path) -> None:
    new, old, done = (_workshop(path) / name for name in (_NEW, _OLD, _DONE))
    shutil.rmtree(done, ignore_errors=True)
    if old.is_dir():
        # Half removed, it must not be taken for a whole one.
        old.rename(done if path.exists() else path)
    for folder in (new, done):
        shutil.rmtree(folder, ignore_errors=True)


def _clear_away(workshop: Path) -> None:
    (workshop / LOCK).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # whatever else somebody put there stays
        workshop.rmdir()


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes UTF-8 text, whatever the locale."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes a value as JSON that any reader accepts (no NaN, no infinity)."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_record(path: str | os.PathLike[str], record: dict[str, Any]) -> None:
    """Writes a JSON object with a checksum of its own, which `read_json` compares."""
    write_json(path, {**record, _CHECKSUM: _checksum(record)})


_MOST_BYTES = 2**26  # of a JSON file, hundreds of times what any of ours takes


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a JSON file that holds an object, as all of ours do.

    What `write_record` wrote comes back as it was handed in.

    Raises:
        UserError: If the file is absent, no JSON object of finite numbers, or not what
            `write_record` wrote.
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
        stated = value.pop(_CHECKSUM, None)
        if stated not in (None, _checksum(value)):
            raise UserError(
                f"{str(path)!r} was damaged or changed since it was written: its {_CHECKSUM} is "
                f"{_checksum(value)}. Received: a file that states {stated!r}. Make it again; if "
                f"the change is meant, remove the line {_CHECKSUM!r}."
            )
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
        f"{path} does not say what it should ({reason[:300]}). It was damaged; make it again."
    )


def refuse_file_in_the_way(what: str, path: str | os.PathLike[str]) -> None:
    """Refuses a path that can become no folder, since a file is there or above.

    Args:
        what: What the sentence calls the path, as `errors.argument` does.
        path: The folder to be.

    Raises:
        UserError: If there is such a file.
    """
    places = (Path(path).absolute(), *Path(path).absolute().parents)
    there = next((place for place in places if place.exists()), Path("/"))
    if not there.is_dir():
        which = "which" if there == places[0] else f"but {str(there)!r}"
        raise UserError(
            f"{what} must be a folder. Received: {str(path)!r}, {which} is a file. Choose another "
            "one."
        )


def make_folder(what: str, path: Path) -> None:
    """Makes a folder, with those above it, unless it exists.

    Args:
        what: What the sentence calls the path, as `errors.argument` does.
        path: The folder.

    Raises:
        UserError: If this is no place for a folder. A full disk or a read-only one stays an
            `OSError`.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EACCES, errno.EPERM):
            raise
        raise UserError(
            f"The folder {str(path)!r} cannot be made: {error.strerror}. Choose another place by "
            f"{what}, or one in which you may write."
        ) from error


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


def refuse_pipes(folder: Path, advice: str) -> None:
    """Refuses a folder to read that holds a pipe or device, which would be waited for.

    Args:
        folder: The folder.
        advice: What to do about it, one sentence.

    Raises:
        UserError: If there is such an entry, however deep.
    """
    for entry in sorted(folder.rglob("*")):
        if entry.exists() and not (entry.is_file() or entry.is_dir()):
            raise UserError(f"{str(entry)!r} is no file. {advice}")


def sha256_of(path: Path) -> str:
    """The SHA-256 digest of a file, or of all files in a folder and their names."""
    digest = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        with file.open("rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def seal(path: Path) -> None:
    """Appends the SHA-256 digest of a file's content to it; `unsealed` compares it."""
    digest = hashlib.sha256(path.read_bytes()).digest()
    with open(path, "ab") as file:
        file.write(digest)


def unsealed(path: Path) -> bytes:
    """Returns what a file held before `seal`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not as it was sealed.
    """
    content = path.read_bytes()
    content, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError(f"{path.name} does not match its checksum")
    return content


def _checksum(record: dict[str, Any]) -> str:
    as_read = json.loads(json.dumps(record))  # keys are strings there
    return hashlib.sha256(json.dumps(as_read, sort_keys=True).encode()).hexdigest()
