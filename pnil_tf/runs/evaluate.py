"""What `bin/evaluate.py` calls: from a path and a few words to results."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pnil_tf.data import Dataset, DataSettings, load
from pnil_tf.errors import UserError
from pnil_tf.evaluation.runner import evaluate
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.files import refuse_file_in_the_way, sha256_of, understood
from pnil_tf.runs.load import RUN, Loaded, load_model, read_run
from pnil_tf.vocabulary import NORMS

_OUTPUT = "evaluation"


@dataclasses.dataclass(frozen=True)
class Saved:
    """A saved classifier with what belongs to it.

    Args:
        loaded: The classifier.
        epsilon: Radius of the attacks.
        norm: Norm of that radius.
        dataset: The data.
    """

    loaded: Loaded
    epsilon: float
    norm: str
    dataset: Dataset


def load_saved(
    model: str,
    epsilon: float | None = None,
    data: Mapping[str, Any] | None = None,
    norm: str | None = None,
) -> Saved:
    """Loads a classifier and its data.

    Args:
        model: A run's folder, a `.keras` file or a SavedModel folder.
        epsilon: Radius of the attacks; by default that of the run's training.
        data: Fields of `DataSettings` that were said explicitly; the run's fill the rest.
        norm: Norm of the radius; by default the run's, or l_inf.

    Raises:
        UserError: If something is missing or does not fit.
    """
    epsilon, norm, settings = _settled(model, epsilon, norm, data or {})
    return Saved(load_model(model), epsilon, norm, load(settings))


def evaluate_saved(
    model: str,
    *,
    epsilon: float | None = None,
    norm: str | None = None,
    output: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    data: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Evaluates a saved classifier on the test images of a data set.

    Args:
        model: A run's folder, a `.keras` file or a SavedModel folder.
        epsilon: Radius of the attacks; by default that of the run's training.
        norm: Norm of the radius; by default the run's, or l_inf.
        output: Folder for the results; by default `evaluation` in the run's folder.
        resume: As for `evaluate`.
        overwrite: As for `evaluate`.
        data: Fields of `DataSettings` that were said explicitly; the run's fill the rest.
        options: Further fields of `EvaluationSettings`.

    Returns:
        The content of `results.json`.

    Raises:
        UserError: If something is missing or does not fit; before the work begins.
    """
    epsilon, norm, _ = _settled(model, epsilon, norm, data or {})
    settings = EvaluationSettings(epsilon=epsilon, norm=norm, **(options or {}))
    if output is None:
        if not read_run(model):
            raise UserError(f"{model} is no run's folder: say with --output where results belong.")
        output = str(Path(model) / _OUTPUT)
    refuse_file_in_the_way("output", output)
    saved = load_saved(model, epsilon, data, norm)
    test = saved.dataset.test.take(settings.images)
    return evaluate(
        saved.loaded.model,
        test.images,
        test.labels,
        settings,
        output,
        resume=resume,
        overwrite=overwrite,
        data=saved.dataset.describe(),
        model_identity=sha256_of(saved.loaded.file),
        kind=saved.loaded.kind,
    )


def _settled(
    model: str, epsilon: float | None, norm: str | None, data: Mapping[str, Any]
) -> tuple[float, str, DataSettings]:
    """The radius, its norm and the data: what was said, or else the run's."""
    if not Path(model).exists():
        raise UserError(f"There is no model at {model}. Train one with bin/train.py.")
    with understood(Path(model) / RUN):
        run = _flat(read_run(model))
    trained_in = run.get("norm", NORMS[0])
    norm = norm or trained_in
    if epsilon is None:
        if run and norm != trained_in:
            raise UserError(
                f"{model} was trained at a radius in {trained_in}, which says nothing in {norm}. "
                f"Received: --norm={norm} without --epsilon. Give one."
            )
        epsilon = run.get("epsilon")
    if epsilon is None:
        raise UserError(f"{model} does not say for which epsilon it was trained: give --epsilon.")
    return epsilon, norm, _data_settings(model, run, data)


def _flat(run: dict[str, Any]) -> dict[str, Any]:
    """The run's settings by name, whatever group they belong to."""
    flat: dict[str, Any] = {}
    for name, value in run.get("settings", {}).items():
        flat |= value if isinstance(value, dict) else {name: value}
    return flat


def _data_settings(model: str, run: dict[str, Any], given: Mapping[str, Any]) -> DataSettings:
    names = [field.name for field in dataclasses.fields(DataSettings)]
    values = {name: run[name] for name in names if run.get(name) is not None} | dict(given)
    if "dataset" not in values:
        raise UserError(f"{model} does not say on which data it was trained: give --dataset.")
    if isinstance(values.get("image_size"), list):  # as JSON keeps it
        values["image_size"] = tuple(values["image_size"])
    return DataSettings(**values)
