"""Closed and full standard streams, and readers that leave: the work is done, or says why not."""

import subprocess
import sys

import pytest
from command import ROOT
from tiny import EVALUATE

from pnil_tf.files import read_json

pytestmark = pytest.mark.faults


def shell(line: str, *arguments: object) -> subprocess.CompletedProcess:
    """Runs a line of bash in which `$0` is Python and `$1` ... are the arguments."""
    command = ["bash", "-o", "pipefail", "-c", line, sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def bin(script):
    return ROOT / "bin" / script


@pytest.mark.parametrize(
    "redirection",
    [
        pytest.param("2>&-", marks=pytest.mark.slow, id="closed"),
        pytest.param("2>/dev/full", marks=pytest.mark.slow, id="full"),
        pytest.param(">&- 2>&- <&-", id="all closed"),
    ],
)
def test_a_training_goes_on_without_a_word(redirection, train_flags, tmp_path):
    flags = [*train_flags, "--epochs=1", f"--runs_dir={tmp_path}", "--name=quiet"]
    done = shell(f'"$0" "$@" {redirection}', bin("train.py"), *flags)
    assert (done.returncode, done.stderr) == (0, "")
    assert read_json(tmp_path / "quiet" / "run.json")["status"] == "finished"
    # Nothing that was meant for a closed stream went into one of the run's files.
    assert (tmp_path / "quiet" / "history.csv").read_text().count("\n") == 2


def test_results_that_nobody_could_read_are_a_failure(trained, tmp_path):
    flags = [f"--model={trained}", f"--output={tmp_path}/out", *EVALUATE]
    done = shell('"$0" "$@" >/dev/full', bin("evaluate.py"), *flags)
    assert done.returncode == 1
    assert "could not be written to standard output" in done.stderr
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert (tmp_path / "out" / "results.json").exists()


@pytest.mark.parametrize("script", ["train.py", "evaluate.py", "reproduce.py", "benchmark.py"])
def test_a_reader_that_has_seen_enough_is_no_failure(script):
    done = shell('"$0" "$@" --help | head -1', bin(script))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1


def test_help_that_nobody_could_read_is_a_failure():
    done = shell('"$0" "$@" --help >/dev/full', bin("train.py"))
    assert done.returncode == 1
    assert done.stderr.startswith("train.py: What it says could not be written")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_the_list_of_commands_meets_streams_as_commands_do(word):
    full = shell('"$0" -m pnil_tf "$1" >/dev/full', word)
    assert full.returncode == 1
    assert full.stderr.startswith("pnil-tf: What it says could not be written")
    gone = shell('"$0" -m pnil_tf "$1" | true', word)
    assert (gone.returncode, gone.stderr) == (0, "")


def test_a_question_that_nobody_can_answer_is_answered_by_no(tmp_path):
    flags = ("--study=figure4", "--budget=smoke", f"--output={tmp_path}/study")
    done = shell('"$0" "$@" <&-', bin("reproduce.py"), *flags)
    assert done.returncode == 2
    assert "--yes" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_mistake_is_a_mistake_though_nobody_hears_of_it():
    assert shell('"$0" "$1" --epochs=no 2>&-', bin("train.py")).returncode == 2
