"""The smallest run and evaluation that still do everything, and the same bits every time."""

import hashlib
import json
from pathlib import Path

from results import without_times

# 400 images: 40 steps an epoch, each of some milliseconds.
TRAIN = [
    "--dataset=kmnist",
    "--data_source=idx",
    "--epochs=2",
    "--batch_size=10",
    "--width=2",
    "--validation_images=20",
    "--evaluation_images=0",
    "--guard=off",
    "--pnil",
    "--attack=rfgsm",
    "--epsilon=0.1",
    "--deterministic",
]
LAST_STEP = 80

EVALUATE = [
    "--images=20",
    "--batch_size=2",
    "--eot_samples=2",
    "--judge_draws=3",
    "--attacks=fgsm,noise",
    "--nochecks",
    "--epsilons=",
]


def digests(folder: Path) -> dict[str, str]:
    """What every file in a folder holds, by its path within; locks hold nothing."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def numbers(file: Path) -> dict:
    """An evaluation's results without what the clock decides."""
    results = without_times(json.loads(file.read_text()))
    del results["sha256"]
    return results


def steps(run: Path) -> list[int]:
    """The steps of a run's checkpoints."""
    return sorted(int(p.stem[5:]) for p in (run / "checkpoints" / "last").glob("step-*.index"))


def assert_one_error(err: str) -> None:
    """One clear error: no traceback, and one line that begins with the command's name."""
    assert "Traceback" not in err, err
    lines = [line for line in err.splitlines() if line.partition(":")[0].endswith(".py")]
    assert len(lines) == 1, err
