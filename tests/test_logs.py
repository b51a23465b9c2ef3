"""What other libraries log stays off the screen, unless it matters."""

import logging
import subprocess
import sys

import pytest

from pnil_tf import logs
from pnil_tf.logs import errors_only


def test_within_it_only_errors_are_shown(caplog):
    logger = logging.getLogger("somebody")
    with errors_only("somebody"):
        logger.warning("a worry")
        logger.error("an error")
    logger.warning("afterwards")
    assert [record.message for record in caplog.records] == ["an error", "afterwards"]


def test_tensorflow_is_imported_without_a_line_before_our_own():
    code = (
        "from pnil_tf.logs import import_tensorflow; import_tensorflow(); import tensorflow as tf"
    )
    code += "; import gc, sys; print(gc.get_freeze_count()); print('ours', file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "ours\n"
    assert int(done.stdout) > 100_000  # nothing looks through it for garbage


def test_only_a_machine_with_a_gpu_hears_of_errors_with_it(tmp_path, monkeypatch):
    driver = tmp_path / "driver"
    monkeypatch.setattr(logs, "_NVIDIA", str(driver))
    assert logs.quiet_level() == "3"
    driver.touch()
    assert logs.quiet_level() == "2"


def test_what_is_no_chatter_is_passed_on(tmp_path):
    twice = "E0000 a.cc:8] Unable to register cuDNN factory: one has already been registered"
    said = f"I0000 chatter\n{twice}\nE0000 an error\nW0000 a warning\n"
    (tmp_path / "tensorflow.py").write_text(
        f"import os\nos.write(2, {said.encode()!r})\nraise ImportError('no')\n"
    )
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    code += "from pnil_tf.logs import import_tensorflow\nimport_tensorflow()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[:2] == ["E0000 an error", "W0000 a warning"]
    assert "ImportError: no" in done.stderr


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
def test_what_nobody_can_take_does_not_end_the_command(tmp_path, redirection):
    (tmp_path / "tensorflow.py").write_text("import os\nos.write(2, b'W0000 a warning\\n')\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    code += "from pnil_tf.standard_streams import guard\nguard()\n"
    code += "from pnil_tf.logs import import_tensorflow\nimport_tensorflow()\nprint('went on')"
    command = ["bash", "-c", f'"$0" -c "$1" {redirection}', sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "went on\n")
