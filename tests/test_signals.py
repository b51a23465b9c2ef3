"""A signal ends a process, whether or not TensorFlow lets Python answer it."""

import signal
import subprocess
import sys
import time

import pytest

SETUP = "from pnil_tf.signals import answer_signals; answer_signals(2.0)\n"
PYTHON = (
    "import time\ntry:\n    print('ready', flush=True); time.sleep(60)\nfinally:\n    print('kept')"
)
# One operation of TensorFlow that takes for ever, during which Python answers no signal.
DEAF = """
import sys
import tensorflow as tf

@tf.function
def endless():
    tf.print("ready", output_stream=sys.stdout)
    return tf.while_loop(lambda i: i >= 0, lambda i: [i + 1 - tf.cast(i > 9, tf.int32)], [0])

endless()
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 1)])
def test_python_unwinds_its_stack(number, status):
    process = subprocess.Popen([sys.executable, "-c", SETUP + PYTHON], stdout=-1, stderr=-1)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    out, _ = process.communicate(timeout=20)
    assert out == b"kept\n"
    assert process.returncode in (status, -number, 130)


# TensorFlow's C++ aborts where Python, which it asks for something, answers with an exception.
WITHIN_ANOTHER_PACKAGE = """
import os, signal, sysconfig
from pnil_tf.visible import visible

code = "def work():\\n    os.kill(os.getpid(), signal.{number})\\n    {then}"
other = {{"os": os, "signal": signal, "visible": visible, "__name__": "another"}}
exec(compile(code, os.path.join({folder}, "another.py"), "exec"), other)

def ours():
    try:
        other["work"]()
        print("went on")
    finally:
        print("kept")

ours()
"""


HERE = "sysconfig.get_path('purelib')"
# Where a virtual environment finds the packages of the Python that it was made from.
OF_THE_BASE = "sysconfig.get_path('stdlib'), 'site-packages'"


@pytest.mark.parametrize(
    ("number", "status", "then", "said", "folder"),
    [
        ("SIGTERM", 143, "print('its work is done')", ["its work is done", "kept"], OF_THE_BASE),
        ("SIGINT", -signal.SIGINT, "print('its work is done')", ["its work is done", "kept"], HERE),
        ("SIGTERM", 143, "while True: visible('')", ["kept"], HERE),
    ],
    ids=["SIGTERM", "Ctrl-C", "calls ours"],
)
def test_another_package_is_not_torn_out_of_its_work(number, status, then, said, folder):
    code = SETUP + WITHIN_ANOTHER_PACKAGE.format(number=number, then=then, folder=folder)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == said
    assert done.returncode == status


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_an_operation_that_does_not_return_is_left(number):
    process = subprocess.Popen([sys.executable, "-c", SETUP + DEAF], stdout=-1, stderr=-1)
    try:
        assert process.stdout.readline() == b"ready\n"
        sent = time.monotonic()
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
        assert time.monotonic() - sent < 20
        assert process.returncode == 128 + number
        assert b"Stopped: the work under way did not return in time." in said
    finally:
        process.kill()
