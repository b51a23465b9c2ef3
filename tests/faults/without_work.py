"""What a training and an evaluation do to files, in their order, without the work itself."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from pnil_tf.evaluation.output import (
    ARRAYS,
    REPORT,
    RESULTS,
    STATE,
    finished,
    put_in_place,
    refuse_foreign,
)
from pnil_tf.evaluation.store import Store
from pnil_tf.files import sha256_of, write_record
from pnil_tf.runs.directory import RunDirectory
from pnil_tf.runs.own_files import FLAGS_BEGIN
from pnil_tf.runs.settings import RunSettings

IDENTITY = {"model": "abc"}


def train(settings: RunSettings, record: dict) -> None:
    """A training that leaves a record, with its seed as its weights."""
    run = RunDirectory(settings)
    if settings.resume and run.exists:
        run.lock()
    else:
        run.begin({**record, "status": "unfinished"}, f"{FLAGS_BEGIN}X")
    run.last.mkdir(exist_ok=True)
    (run.last / "step-1.index").write_text("weights")
    run.kept.write_text(f"weights of {record['seed']}")
    run.publish({"sha256": None, "epoch": 1})
    run.write({**record, "status": "finished"})
    run.keep_new()


def evaluate(
    output: Path, said: dict, resume: bool = True, computing: Callable[[], None] = lambda: None
) -> dict:
    """An evaluation that comes to what is `said`."""
    refuse_foreign(output)
    results = finished(output, IDENTITY) if resume else None
    if results is not None:
        return results
    output.mkdir(exist_ok=True)
    store = Store(output / STATE, IDENTITY, resume)

    def compute():
        computing()
        return {"votes": np.arange(9)}

    votes = store.once("piece", compute)
    np.savez(output / STATE / ARRAYS, **votes)
    (output / STATE / REPORT).write_text("report")
    arrays = {"file": ARRAYS, "sha256": sha256_of(output / STATE / ARRAYS)}
    results = {"identity": IDENTITY, "verdict": "credible", "arrays": arrays, **said}
    write_record(output / STATE / RESULTS, results)
    put_in_place(output)
    store.remove()
    return results
