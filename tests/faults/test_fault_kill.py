"""kill -9 in the middle of a training, an evaluation and a study: resumed, they end the same."""

import contextlib
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from command import assert_same, run, start
from tiny import EVALUATE, LAST_STEP, digests, numbers, steps

pytestmark = pytest.mark.faults

SEED = 20261122
DEADLINE = 240.0


def killed(process, moment: Callable[[], bool]) -> bool:
    """Kills a process at a moment; whether it was still at work then."""
    end = time.monotonic() + DEADLINE
    while not moment() and process.poll() is None:
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def temporaries(folder: Path) -> list[str]:
    """Files that are half written; some may vanish while we look."""
    with contextlib.suppress(FileNotFoundError):
        return [path.name for path in folder.glob(".*.tmp*")]
    return []


def train(flags: list[str], directory: Path, resume: bool = True):
    return start(
        "train.py",
        *flags,
        "--checkpoint_steps=1",
        f"--runs_dir={directory.parent}",
        f"--name={directory.name}",
        *(["--resume"] if resume else []),
    )


def finish(process) -> None:
    _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, err


def last_values(run: Path) -> dict[str, np.ndarray]:
    """Everything in the last checkpoint but the history, with its times."""
    reader = tf.train.load_checkpoint(str(run / "checkpoints" / "last" / f"step-{LAST_STEP}"))
    names = [name for name in reader.get_variable_to_shape_map() if not name.startswith("state/")]
    return {name: reader.get_tensor(name) for name in names if not name.startswith("_CHECK")}


def assert_same_training(undisturbed: Path, directory: Path) -> None:
    assert_same(undisturbed, directory)
    one, other = last_values(undisturbed), last_values(directory)
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)
    assert digests(undisturbed).keys() >= digests(directory).keys() - {
        f"checkpoints/last/step-{LAST_STEP - 1}{suffix}"  # of its checkpoints at every step
        for suffix in (".index", ".data-00000-of-00001")
    }, "something is left over"


def checkpoint_moment(directory: Path, step: int) -> Callable[[], bool]:
    """While a checkpoint after a step is being written."""
    last = directory / "checkpoints" / "last"
    return lambda: max(steps(directory), default=0) >= step and bool(temporaries(last))


def step_moment(directory: Path, step: int, delay: float) -> Callable[[], bool]:
    """Some time after a step, whatever is done then."""
    due: list[float] = []

    def reached() -> bool:
        if not due and max(steps(directory), default=0) >= step:
            due.append(time.monotonic() + delay)
        return bool(due) and time.monotonic() >= due[0]

    return reached


def kill_a_training(flags, directory: Path, moments) -> list[str]:
    """Kills a run once for each moment, resumes it, and says what each kill met."""
    met = []
    for i, moment in enumerate(moments):
        if not killed(train(flags, directory, resume=i > 0), moment):
            met.append("it was done")
        elif temporaries(directory / "checkpoints" / "last"):
            met.append("within a checkpoint")
        elif temporaries(directory / "checkpoints") or temporaries(directory):
            met.append("within another file")
        else:
            met.append("between files")
    finish(train(flags, directory))
    return met


@pytest.mark.slow
def test_a_training_killed_within_a_checkpoint_ends_with_the_same_bits(
    trained, train_flags, tmp_path
):
    directory = tmp_path / "killed"
    step = random.Random().randrange(1, LAST_STEP - 5)
    met = kill_a_training(train_flags, directory, [checkpoint_moment(directory, step)])
    print("killed after step", step, met)
    assert "it was done" not in met
    assert_same_training(trained, directory)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_training_killed_at_20_moments(trained, train_flags, tmp_path):
    generator = random.Random(SEED)
    met = []
    for number in range(2):
        directory = tmp_path / f"killed_{number}"
        drawn = sorted(generator.sample(range(1, LAST_STEP - 1), 8))
        moments = [
            after(generator.uniform(0, 8)),  # before or at its first steps
            *(
                checkpoint_moment(directory, step)
                if i % 2
                else step_moment(directory, step, generator.uniform(0, 0.1))
                for i, step in enumerate(drawn)
            ),
            step_moment(directory, LAST_STEP, generator.uniform(0, 1.5)),  # the last files
        ]
        met += kill_a_training(train_flags, directory, moments)
        print(f"seed {SEED}, run {number}, after steps {drawn}: {met[-10:]}", flush=True)
        assert_same_training(trained, directory)
    assert len(met) == 20
    assert met.count("within a checkpoint") >= 4, met
    assert met.count("it was done") <= 2, met


def kill_an_evaluation(model: Path, output: Path, moments) -> None:
    arguments = (f"--model={model}", f"--output={output}", *EVALUATE, "--resume")
    for moment in moments:
        assert killed(start("evaluate.py", *arguments), moment), "it was done"
    status, _, err = run("evaluate.py", *arguments)
    assert status == 0, err


def pieces_moment(output: Path, count: int, delay: float) -> Callable[[], bool]:
    """Some time after pieces of an evaluation are there."""
    due: list[float] = []

    def reached() -> bool:
        if not due and len(list((output / "state").glob("*.npz"))) >= count:
            due.append(time.monotonic() + delay)
        return bool(due) and time.monotonic() >= due[0]

    return reached


def assert_same_evaluation(undisturbed: Path, output: Path) -> None:
    assert numbers(undisturbed / "results.json") == numbers(output / "results.json")
    # The arrays bit for bit: their digest is among the numbers.
    assert digests(undisturbed).keys() == digests(output).keys(), "something is left over"


PIECES = 40  # of the evaluation: clean, two attacks and the worst case, in ten batches


def test_a_killed_evaluation_ends_with_the_same_numbers(trained, evaluated, tmp_path):
    count = random.Random().randrange(1, PIECES - 5)
    print("killed after piece", count)
    kill_an_evaluation(trained, tmp_path / "out", [pieces_moment(tmp_path / "out", count, 0.0)])
    assert_same_evaluation(evaluated, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_evaluation_killed_at_20_moments(trained, evaluated, tmp_path):
    generator = random.Random(SEED)
    for number in range(2):
        output = tmp_path / f"out_{number}"
        counts = sorted(generator.sample(range(1, PIECES - 2), 9))
        moments = [
            after(generator.uniform(0, 6)),
            *(pieces_moment(output, count, generator.uniform(0, 0.05)) for count in counts),
        ]
        kill_an_evaluation(trained, output, moments)
        print(f"seed {SEED}, evaluation {number}: 10 kills, after pieces {counts}", flush=True)
        assert_same_evaluation(evaluated, output)
        shutil.rmtree(output)
