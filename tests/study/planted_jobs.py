"""Folders of the smoke budget's jobs, waiting or as finished jobs leave them."""

import json

from pnil_tf.study.budgets import BUDGETS
from pnil_tf.study.job_folder import JobFolder
from pnil_tf.study.studies import jobs_of
from pnil_tf.vocabulary import SUITES

SMOKE = BUDGETS["smoke"]


def prepared(output, study="table1"):
    """The folders of a study's jobs, which all wait."""
    folders = []
    for job in jobs_of(study, SMOKE):
        folders.append(JobFolder(output / "cells" / job.cell.name))
        folders[-1].prepare(job, None)
    return folders


def finish(folder):
    """Leaves what a finished job leaves, as far as anybody looks at it."""
    folder.run.mkdir(exist_ok=True)
    record = {
        "status": "finished",
        "data": {"source_detail": "mnist/3.0.1", "note": None},
        "kept": {"epoch": 1, "value": 1.0},
        "guard_events": [],
        "training_seconds": 1.0,
    }
    record |= dict.fromkeys(("seed", "noise", "max_lr", "versions", "device", "finished"))
    (folder.run / "run.json").write_text(json.dumps(record))
    figure = {"value": 0.5, "low": 0.4, "high": 0.6, "images": 9, "draws": 1, "seconds": 1.0}
    for evaluation in folder.job().evaluations:
        folder.evaluation(evaluation.name).mkdir(exist_ok=True)
        asked = evaluation.options["attacks"]
        suites = {name: figure for name in asked if name in SUITES}
        attacks = dict.fromkeys([name for name in asked if name not in SUITES], figure)
        results = {"clean": figure, "attacks": attacks, "suites": suites, "attack_seconds": 1.0}
        (folder.evaluation(evaluation.name) / "results.json").write_text(json.dumps(results))
    folder.update(status="finished")


def begun_study(output, folders):
    """Leaves a begun study of which these jobs are finished."""
    for folder in folders:
        finish(folder)
    (output / "study.json").write_text(json.dumps({"budget": SMOKE.to_json(), "predictions": []}))
