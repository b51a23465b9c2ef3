"""What a run's folder says of its model: its training, its figures, its classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pnil_tf.contract.pixel_range import UNIT, PixelRange
from pnil_tf.evaluation.output import RESULTS
from pnil_tf.files import read_json, sha256_of, understood
from pnil_tf.runs.names import EVALUATION
from pnil_tf.serving.record import Accuracy, Record


def record_of(path: str | Path, file: Path, run: Mapping[str, Any]) -> Record:
    """Reads what a run's folder says of its model; little is known of a bare model.

    Args:
        path: A run's folder or a `.keras` file.
        file: The file of the classifier.
        run: What its `run.json` says; empty for a bare model.

    Raises:
        UserError: If the run's or the evaluation's description is damaged.
    """
    path = Path(path)
    if not run:
        return Record(name=path.stem)
    with understood(f"run.json or {RESULTS} in {path}"):
        return _of_run(path, file, run)


def _of_run(path: Path, file: Path, run: Mapping[str, Any]) -> Record:
    data, settings = run.get("data") or {}, run.get("settings") or {}
    accuracies, verdict, notes = _evaluated(path, file, data)
    if not accuracies and run.get("result"):
        accuracies = _quick(run["result"])
    if data.get("note"):
        notes.append(data["note"])
    return Record(
        name=path.resolve().name,
        data=_without_place(data.get("name")),
        class_names=tuple(data.get("class_names", ())),
        resized=(settings.get("data") or {}).get("image_size") is not None,
        training=_training(settings),
        accuracies=accuracies,
        verdict=verdict,
        note=" ".join(notes) or None,
    )


def _training(settings: dict[str, Any]) -> dict[str, Any]:
    # Places on the machine that trained it are left out: they help nobody and are private.
    return {
        name: value
        for group in ("model", "attack", "optimization")
        for name, value in (settings.get(group) or {}).items()
        if value is not None
    }


def _without_place(name: str | None) -> str | None:
    if name and name.startswith("folder:"):
        return f"images in the folder {Path(name.removeprefix('folder:')).name}"
    if name and name.startswith("npz:"):
        return f"arrays in {Path(name.removeprefix('npz:')).name}"
    return name


def _evaluated(
    path: Path, file: Path, data: Mapping[str, Any]
) -> tuple[tuple[Accuracy, ...], str | None, list[str]]:
    """Accuracies and verdict of the evaluation in the run's folder, if it is this model's.

    It also has to be on the images that belong to the run: the card speaks of no others.
    """
    results = path / EVALUATION / RESULTS
    if not results.is_file():
        return (), None, []
    found = read_json(results)
    if found["identity"]["model"] != sha256_of(file):
        note = "There is an evaluation of another state of this model; it is not shown."
        return (), None, [note]
    other = found.get("data") or {}
    if any(other.get(key) != data.get(key) for key in ("name", "sha256")):
        where = _without_place(other.get("name")) or "other images"
        return (), None, [f"There is an evaluation on {where}; it is not shown."]
    ball = _ball(found["settings"], (found.get("model") or {}).get("pixel_range", UNIT))
    robust = found["effective_robustness"]
    accuracies = (
        _accuracy("unperturbed images", found["clean"]),
        _accuracy(f"under the strongest attack ({robust['attack']}), {ball}", robust),
        _accuracy(f"worst of all attacks for each image, {ball}", found["worst_case_per_image"]),
    )
    return accuracies, f"{found['verdict']}: {found['verdict_reason']}", []


def _quick(result: dict[str, Any]) -> tuple[Accuracy, ...]:
    ball = _ball(result, result.get("pixel_range", UNIT))  # unsaid, where there was no choice
    attack = f"under {result['attack']} ({result['steps']} steps), {ball}"
    return (
        _accuracy("unperturbed images", result["clean_accuracy"]),
        _accuracy(attack, result["pgd_accuracy"]),
    )


def _ball(settings: dict[str, Any], pixel_range: Any) -> str:
    radius = PixelRange.of(pixel_range).says(settings["epsilon"], settings["norm"])
    return f"epsilon {radius}, {settings['norm']}"


def _accuracy(name: str, found: dict[str, Any]) -> Accuracy:
    value, low, high = (float(found[key]) for key in ("value", "low", "high"))
    return Accuracy(name, value, low, high, int(found["images"]))
