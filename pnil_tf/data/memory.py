"""Whether a data set fits in memory, known before it is read."""

from __future__ import annotations

from pathlib import Path

from pnil_tf.errors import UserError

# Sorting the images and handing them to TensorFlow each hold a second copy for a moment.
COPIES = 2
SHARE = 0.7


def available_bytes() -> int | None:
    """The memory that this process may still take; None where the system does not say."""
    limits = []
    meminfo = _read(Path("/proc/meminfo"))
    for line in meminfo.splitlines():
        if line.startswith("MemAvailable:"):
            limits.append(int(line.split()[1]) * 1024)
    group = Path("/sys/fs/cgroup")
    maximum, current = _read(group / "memory.max"), _read(group / "memory.current")
    if maximum.strip().isdigit() and current.strip().isdigit():
        limits.append(int(maximum) - int(current))
    return min(limits, default=None)


def check_fits(name: str, images: int, shape: tuple[int, int, int], value_bytes: int = 1) -> None:
    """Refuse a data set that would not leave the machine enough memory.

    Args:
        name: of the data set, for the message.
        images: how many there are in all splits that are read.
        shape: `(height, width, channels)` of each.
        value_bytes: of each channel of each pixel.

    Raises:
        UserError: if they need more than `SHARE` of the available memory.
    """
    height, width, channels = shape
    check_room(
        f"'{name}'",
        COPIES * images * height * width * channels * value_bytes,
        f"{images:,} images of {height} x {width} x {channels}",
        "Ask for smaller images with an image size, choose a smaller data set, or use a machine "
        "with more memory.",
    )


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
            f"{needed / 2**30:.1f} GiB, {available / 2**30:.1f} GiB are available. {advice}"
        )


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
