"""kill -9 before any one of the operations by which a process changes files."""

import itertools
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

_CHANGING = {
    *("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"),
    "os.chmod",
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def watch(root: Path, before: Callable[[int], None]) -> None:
    """Has `before` called with 1, 2, ... before each operation that changes files in `root`.

    It cannot be undone: call it in a process that ends.
    """
    count = 0

    def changes(event, arguments) -> bool:
        if event == "open":
            path, _, flags = arguments
            return bool(flags & _WRITING) and _within(path)
        if event not in _CHANGING:
            return False
        # Relative to an open folder, as `shutil.rmtree` goes: whose it is cannot be told.
        relative = any(isinstance(a, int) and a >= 0 for a in arguments[1:] if event != "os.chmod")
        return relative or any(_within(a) for a in arguments)

    def _within(path) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False
        return os.path.abspath(os.fsdecode(path)).startswith(f"{root}{os.sep}")

    def hook(event, arguments):
        nonlocal count
        if (event == "open" or event in _CHANGING) and changes(event, arguments):
            count += 1
            before(count)

    sys.addaudithook(hook)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_before(number: int, root: Path, work: Callable[[], object]) -> bool:
    """Does some work in a process of its own, which dies before its operation of a number.

    Returns:
        Whether it died; otherwise the work was done.
    """
    child = os.fork()
    if not child:
        status = 1
        try:
            watch(root, lambda at: die() if at == number else None)
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


def kills(root: Path, work: Callable[[], object], every: int = 1) -> Iterator[int]:
    """Yields after each kill, in turn before the first, the second, ... operation of some work.

    What is yielded to puts `root` back to where it was. `every` leaves out those between.
    """
    for number in itertools.count(1, every):
        if not killed_before(number, root, work):
            assert number > 3, "nothing was watched"
            return
        yield number
