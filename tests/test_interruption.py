"""What an interruption ends as, and what is said then."""

import logging
import os
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from pnil_tf.arrays import write_arrays
from pnil_tf.interruption import interruption_alone, interruption_told

STOPS = [KeyboardInterrupt(), SystemExit(143)]


def interrupted(stop):
    """Is stopped, and fails in putting things away."""
    try:
        raise stop
    finally:
        raise ValueError("cannot close what is open")


@pytest.mark.parametrize("stop", STOPS, ids=repr)
def test_it_ends_as_itself_and_is_told_whatever_putting_away_raised(stop, caplog):
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(type(stop)) as met,
        interruption_told(lambda: "Interrupted."),
    ):
        interrupted(stop)
    assert met.value is stop
    assert caplog.messages == ["Interrupted."]


def test_other_errors_stay_what_they_are(caplog):
    with pytest.raises(ValueError, match="alone"), interruption_told(lambda: "Interrupted."):
        raise ValueError("alone")
    with pytest.raises(ValueError, match="cannot close"), interruption_alone():
        interrupted(KeyError("first"))
    assert caplog.messages == []


def test_arrays_that_are_being_written_are_given_up(tmp_path, monkeypatch):
    opened, held = zipfile.ZipFile.open, []

    def interrupted_while_opening(self, *args, **kwargs):
        held.append(opened(self, *args, **kwargs))
        raise KeyboardInterrupt

    monkeypatch.setattr(zipfile.ZipFile, "open", interrupted_while_opening)
    with pytest.raises(KeyboardInterrupt):
        write_arrays(tmp_path / "a.npz", {"x": np.zeros(3)})
    assert list(tmp_path.iterdir()) == []


def test_a_command_leaves_with_the_status_of_its_signal():
    code = """
import os, signal, sys
from pnil_tf import cli
def command():
    try:
        os.kill(os.getpid(), int(os.environ["SENT"]))
    finally:
        raise ValueError("cannot close what is open")
sys.argv = ["x"]
cli.run(command)
"""
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        ended = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "SENT": str(int(number))},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (ended.returncode, ended.stderr) == (status, "")
