"""Namespaces of a test's own: full disks, folders that are read-only for root too, no network."""

import os
import subprocess
from pathlib import Path

_NAMESPACES = ("--user", "--mount", "--net")


class Sandbox:
    """A user, mount and network namespace that lasts until `close`.

    Nothing of it is seen outside, and the machine needs no root for it. The network has no way
    out, not even to this machine.

    Raises:
        OSError: If the machine does not allow it.
    """

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--map-root-user", *_NAMESPACES, "sh", "-c", "echo ready; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if self._holder.stdout.readline() != "ready\n":
            raise OSError(self._holder.communicate()[1].strip())
        self.prefix = (
            *("nsenter", "--target", str(self._holder.pid), "--preserve-credentials"),
            *_NAMESPACES,
            "--",
        )

    def shell(self, command: str, *arguments: object) -> None:
        """Runs a line of shell; `$0`, `$1` ... are the arguments."""
        subprocess.run([*self.prefix, "sh", "-ec", command, *map(str, arguments)], check=True)

    def seen(self, path: Path) -> Path:
        """What lies at `path` in the sandbox, for who is outside of it."""
        return Path(f"/proc/{self._holder.pid}/root{path}")

    def disk(self, path: Path, kilobytes: int) -> None:
        """Mounts an empty disk of a size."""
        self.shell('mkdir -p "$0"; mount -t tmpfs -o size=$1k tmpfs "$0"', path, kilobytes)

    def resize(self, path: Path, kilobytes: int) -> None:
        """Gives a disk another size."""
        self.shell('mount -o remount,size=$1k "$0"', path, kilobytes)

    def fill(self, path: Path) -> None:
        """Leaves no room on a disk."""
        with open(self.seen(path) / "filler", "wb", buffering=0) as file:
            try:
                while True:
                    file.write(os.urandom(4096))
            except OSError:
                return

    def read_only(self, path: Path) -> None:
        """Makes a folder one that nobody can write to."""
        self.shell('mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"', path)

    def full_tmp(self, *kept: Path) -> None:
        """Leaves no room in /tmp; what the folders in `kept` hold stays where it is."""
        self.shell("mount -t tmpfs tmpfs /mnt; mkdir /mnt/tmp; mount --rbind /tmp /mnt/tmp")
        self.disk(Path("/tmp"), 64)
        for path in kept:
            if path.is_relative_to("/tmp"):
                self.shell('mkdir -p "$0"; mount --rbind "/mnt$0" "$0"', path)
        self.fill(Path("/tmp"))

    def close(self) -> None:
        """Ends the namespaces, and with them what was mounted."""
        self._holder.communicate()
