"""Whether a data set fits in memory, known before it is read."""

from __future__ import annotations

import dataclasses
import math
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from pnil_tf.errors import UserError

# Sorting the images and handing them to TensorFlow each hold a second copy for a moment.
COPIES = 2
SHARE = 0.7
# What is made for a moment, beside the work itself.
_SHARE_AT_ONCE = 0.25

_CGROUPS = Path("/sys/fs/cgroup")


def available_bytes() -> int | None:
    """The memory that this process may still take; None where the system does not say."""
    limits = []
    meminfo = _read(Path("/proc/meminfo"))
    for line in meminfo.splitlines():
        if line.startswith("MemAvailable:"):
            limits.append(int(line.split()[1]) * 1024)
    if not limits and "SC_PHYS_PAGES" in os.sysconf_names:  # as on macOS: all that there is
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    limits += [left for left in map(_left_in, _groups()) if left is not None]
    status = _read(Path("/proc/self/status"))
    for kind, used in ((resource.RLIMIT_AS, "VmSize:"), (resource.RLIMIT_DATA, "VmData:")):
        limit, _ = resource.getrlimit(kind)
        for line in status.splitlines():
            if line.startswith(used) and limit != resource.RLIM_INFINITY:
                limits.append(limit - int(line.split()[1]) * 1024)
    return min(limits, default=None)


@dataclasses.dataclass(frozen=True)
class _Accounts:
    """A control group's folder, and how its version calls what memory it allows and has given."""

    folder: Path
    most: str
    taken: str
    of_files: str


def _groups() -> Iterator[_Accounts]:
    """The control groups that this process is in, its own first; of version 2 and of version 1."""
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            home, names = _CGROUPS, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            home = _CGROUPS / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        own = home / path.lstrip("/")
        for folder in (own, *own.parents):
            yield _Accounts(folder, *names)
            if folder == home:
                break


def _left_in(group: _Accounts) -> int | None:
    """The memory that is left in a control group; None where it says of no limit."""
    most, taken = _read(group.folder / group.most), _read(group.folder / group.taken)
    if not (most.strip().isdigit() and taken.strip().isdigit()):
        return None
    # What files that were read have left in memory gives way.
    given_up = [
        int(line.split()[1])
        for line in _read(group.folder / "memory.stat").splitlines()
        if line.startswith(f"{group.of_files} ")
    ]
    return int(most) - int(taken) + sum(given_up)


def fits(images: int, shape: tuple[int, int, int]) -> bool:
    """Whether images of bytes would leave the machine enough memory; see `check_fits`."""
    available = available_bytes()
    return available is None or _needed(images, shape, 1) <= SHARE * available


def check_fits(
    name: str,
    images: int,
    shape: tuple[int, int, int],
    value_bytes: int = 1,
    advice: str = "choose a smaller data set",
) -> None:
    """Refuse a data set that would not leave the machine enough memory.

    Args:
        name: of the data set, for the message.
        images: how many there are in all splits that are read.
        shape: `(height, width, channels)` of each.
        value_bytes: of each channel of each pixel.
        advice: what else to do than to ask for smaller images.

    Raises:
        UserError: if they need more than `SHARE` of the available memory.
    """
    height, width, channels = shape
    check_room(
        f"'{name}'",
        _needed(images, shape, value_bytes),
        f"{images:,} images of {height} x {width} x {channels}",
        f"Ask for smaller images with an image size, {advice}, or use a machine with more memory.",
    )


def _needed(images: int, shape: tuple[int, int, int], value_bytes: int) -> int:
    return COPIES * images * math.prod(shape) * value_bytes


def check_room(what: str, needed: int, holding: str, advice: str) -> None:
    """Refuse what would not leave the machine enough memory.

    Args:
        what: names it.
        needed: bytes that it needs.
        holding: what it consists of.
        advice: what to do.

    Raises:
        UserError: if it needs more than `SHARE` of the available memory.
    """
    available = available_bytes()
    if available is not None and needed > SHARE * available:
        raise UserError(
            f"{what} is too large for this machine's memory: {holding} need about "
            f"{_gib(needed)}, and of the {_gib(available)} that are left to this process they may "
            f"take {SHARE:.0%}. {advice}"
        )


def _gib(count: float) -> str:
    gib = count / 2**30
    return f"{gib:.1f} GiB" if gib >= 1 else f"{gib:.2g} GiB"


def at_once(bytes_of_one: int, most: int) -> int:
    """How many of a kind memory lets be worked on at once: from one to `most`."""
    available = available_bytes()
    if available is None:
        return most
    return max(1, min(most, int(_SHARE_AT_ONCE * available / bytes_of_one)))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
