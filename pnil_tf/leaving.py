"""How a process that uses TensorFlow ends: with its status, and without taking Python apart.

TensorFlow's threads do not hear that Python ends. One that is still at work, as behind a stream of
prefetched batches or an interrupted operation, may meet memory that is gone, and end the process
otherwise than with its status. To take apart large graphs takes seconds, too.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from pnil_tf.signals import SIGNALS


def work_and_leave(work: Callable[[], object]) -> NoReturn:
    """Does the work of a process, and ends it: with status 0, that of a `SystemExit`, or 1.

    All that ends by itself has ended then: `finally` clauses and contexts as the stack unwinds,
    what is registered with `atexit` (folders for a while, Ray, logs), and the standard streams.
    """
    status = _status(work)
    for number in SIGNALS:  # whoever asks again does not want to wait for the rest
        signal.signal(number, signal.SIG_DFL)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _status(work: Callable[[], object]) -> int:
    try:
        work()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BaseException:
        sys.excepthook(*sys.exc_info())
    else:
        return 0
    return 1
