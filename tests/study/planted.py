"""Records of a study as `pnil_tf.study.results.merged` makes them, with planted figures."""


def figure(value, images=100):
    return {
        "value": value,
        "low": max(value - 0.1, 0.0),
        "high": min(value + 0.1, 1.0),
        "images": images,
        "draws": 10,
        "noise_std": 0.0,
    }


def record(pnil, run, pgd, spsa, *, attack="nfgsm", dataset="mnist", epsilon=0.3, **others):
    repeat, fold = run
    name = f"{dataset}_{epsilon:.4g}_{attack}_{pnil}_{repeat}_{fold}"
    evaluations = {
        "pgd": {
            "epsilon": epsilon,
            "options": {"eot_samples": 20},
            "clean": figure(0.98),
            "pgd": figure(pgd),
            "seconds": 60.0,
        },
        "others": {
            "epsilon": epsilon,
            "options": {"eot_samples": 20},
            "clean": figure(0.97),
            "spsa": figure(spsa, 40),
            "seconds": 60.0,
        },
    }
    if "strong" in others:
        evaluations["others"]["pgd_strong"] = figure(others["strong"])
    if "auto" in others:
        evaluations["auto"] = {
            "epsilon": epsilon,
            "options": {"eot_samples": 20},
            "clean": figure(0.96),
            "pgd_strong": figure(1.0, 30),
            "auto": figure(others["auto"], 30),
            "seconds": 60.0,
        }
    return {
        "name": name,
        "cell": {
            "dataset": dataset,
            "epsilon": epsilon,
            "attack": attack,
            "pnil": pnil,
            "repeat": repeat,
            "fold": fold,
        },
        "effort": {"width": 32, "epochs": 50, "images": 5000, **others.get("effort", {})},
        "status": "finished",
        "error": None,
        "training": {
            "data": {"source_detail": "mnist/3.0.1", "note": others.get("note")},
            "training_seconds": 100.0,
            "kept": {"epoch": others.get("kept", 3), "value": 1.0},
            "guard_events": others.get("events", []),
            "versions": {"tensorflow": "2.21.0"},
            "device": {"replicas": 1},
        },
        "evaluations": evaluations,
    }


def study(cells):
    return {
        "budget": {"name": "cpu", "says": "A planted study."},
        "predictions": [{"study": "table1", "seconds": 100}],
        "cells": cells,
        "date": "2026-11-22T00:00:00+00:00",
    }
