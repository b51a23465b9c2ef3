"""Runs commands in forks of one process that has imported TensorFlow, and kills them.

Each line of standard input is JSON: the script, its arguments, the folder that is watched, and the
number of the operation on files before which it dies (0 for none). Each is answered by a line: the
exit status, negative for a signal, and the number of operations.
"""

import atexit
import json
import os
import runpy
import sys
from pathlib import Path

import keras  # noqa: F401 - what takes long to import
import matplotlib.figure  # noqa: F401
import tensorflow  # noqa: F401
from killing import die, watch

import pnil_tf.runs.certify
import pnil_tf.runs.export
import pnil_tf.runs.train  # noqa: F401

BIN = Path(__file__).resolve().parents[2] / "bin"


def command(script: str, arguments: list[str], root: str, number: int, log: int) -> None:
    os.dup2(log, 1)
    os.dup2(log, 2)
    counted = [0]

    def before(at: int) -> None:
        counted[0] = at
        if at == number:
            die()

    watch(Path(root), before)
    sys.argv = [script, *arguments]
    atexit.register(lambda: os.write(log, f"\noperations: {counted[0]}\n".encode()))
    runpy.run_path(str(BIN / script), run_name="__main__")


if __name__ == "__main__":
    for line in sys.stdin:
        script, arguments, root, number, log = json.loads(line)
        child = os.fork()
        if not child:
            with open(log, "wb", buffering=0) as file:
                command(script, arguments, root, number, file.fileno())
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps(status), flush=True)
