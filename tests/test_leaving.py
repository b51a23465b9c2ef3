"""A process leaves with its status, whatever taking Python apart would do."""

import os
import subprocess
import sys

import pytest

# As TensorFlow's threads do now and then: what is torn down under it brings the process down.
PROCESS = """
import atexit, os, signal, sys, tempfile, time
from pnil_tf import cli
from pnil_tf.errors import UserError

class Torn:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGSEGV)

torn = Torn()
atexit.register(lambda: print("hooks"))
folder = tempfile.TemporaryDirectory(prefix="left")
print(folder.name)

def command():
    try:
        {work}
    finally:
        print("unwound")

cli.run(command)
"""
STOPPED = "os.kill(os.getpid(), signal.{}); time.sleep(60)"


@pytest.mark.parametrize(
    ("work", "status", "said"),
    [
        ("pass", 0, ""),
        ("raise UserError('No such thing.')", 2, "No such thing."),
        ("raise OSError('No such luck.')", 1, "No such luck."),
        ("1 / 0", 1, "Traceback"),
        (STOPPED.format("SIGTERM"), 143, ""),
        (STOPPED.format("SIGINT"), 130, ""),
    ],
)
def test_every_status_is_kept_though_the_teardown_would_crash(work, status, said, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROCESS.format(work=work)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == status, done.stderr
    assert done.stdout.splitlines()[1:] == ["unwound", "hooks"]
    assert said in done.stderr
    assert not list(tmp_path.iterdir())
