"""What the cells found, merged from what is there. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pnil_tf.errors import UserError
from pnil_tf.files import understood
from pnil_tf.study.cells import TRAINING_ATTACKS
from pnil_tf.study.job_folder import JobFolder
from pnil_tf.training.settings import PAPER_EPSILON

CELLS = "cells"
DAMAGED = "damaged"
_FIGURE = ("value", "low", "high", "images", "draws", "noise_std", "seconds")


def merged(output: Path, budget: str, names: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Returns one record for each job of a study's folder, finished or not, as table 1 orders them.

    Every record stands alone: the cell, its budget, its effort, what was measured, the data, the
    versions. It names no path of this machine. Of a cell whose files are damaged or missing the
    record holds the name, the status and the error alone, and comes last.

    Args:
        output: The study's folder.
        budget: Name of the study's budget.
        names: Names of cells that there should be.
    """
    found, absent = [], []
    for path in sorted((output / CELLS).glob("*/job.json")):
        folder = JobFolder(path.parent)
        try:
            with understood(folder.path):  # one or another of its files
                record = {"budget": budget, **_record(folder)}
                found.append((_place(record), record))
        except UserError as error:
            says = f"{_without_path(str(error), folder)} Delete that file to have it done again."
            absent.append(_absent(budget, folder.path.name, DAMAGED, says))
    there = {path.parent.name for path in (output / CELLS).glob("*/job.json")}
    says = "There is no job.json in its folder. The study's command does it."
    absent += [_absent(budget, name, "missing", says) for name in names if name not in there]
    return [record for _, record in sorted(found, key=lambda placed: placed[0])] + absent


def _absent(budget: str, name: str, status: str, error: str) -> dict[str, Any]:
    nothing: dict[str, Any] = {"cell": None, "training": None, "evaluations": {}}
    return {"budget": budget, "name": name, "status": status, "error": error, **nothing}


def _place(record: dict[str, Any]) -> tuple[Any, ...]:
    cell = record["cell"]
    run = (cell["repeat"] or 0, cell["fold"] or 0)
    known = (*TRAINING_ATTACKS, cell["attack"])
    attack = known.index(cell["attack"])
    dataset = list(PAPER_EPSILON).index(cell["dataset"])
    return dataset, cell["epsilon"], attack, cell["pnil"], run


def _record(folder: JobFolder) -> dict[str, Any]:
    state = folder.read()
    # A job that was done may have got more to do since, or lost a file.
    unfinished = "waiting" if state["status"] == "finished" else state["status"]
    record: dict[str, Any] = {
        "name": folder.path.name,
        "cell": state["cell"],
        "effort": state["effort"],
        "status": "finished" if folder.finished else unfinished,
        "error": None if folder.finished else _without_path(state["error"] or "", folder) or None,
        "training": None,
        "evaluations": {},
    }
    run = folder.run_record()
    if run is not None:
        record["training"] = {
            **{key: run[key] for key in ("data", "seed", "noise", "max_lr", "versions", "device")},
            **{key: run[key] for key in ("kept", "guard_events", "training_seconds", "finished")},
        }
    for entry in state["evaluations"] if run is not None else ():
        results = folder.results(entry["name"])
        if results is not None:
            record["evaluations"][entry["name"]] = {
                "epsilon": entry["epsilon"],
                "options": entry["options"],
                "clean": _figure(results["clean"]),
                **{
                    name: _figure(found)
                    for name, found in (results["attacks"] | results.get("suites", {})).items()
                },
                "seconds": results["attack_seconds"],
            }
    return record


def _without_path(error: str, folder: JobFolder) -> str:
    return error.replace(str(folder.path), folder.path.name)


def _figure(found: dict[str, Any]) -> dict[str, Any]:
    return {key: found[key] for key in _FIGURE if key in found}
