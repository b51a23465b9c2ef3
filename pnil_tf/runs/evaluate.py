"""What `bin/evaluate.py` calls: from a path and a few words to results."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pnil_tf.certificate.both_sides import beside
from pnil_tf.certificate.output import RESULTS as CERTIFIED
from pnil_tf.certificate.result import Certificate
from pnil_tf.certificate.withdrawn import RefutedError, stated_arrays
from pnil_tf.contract.pixel_range import UNIT, PixelRange
from pnil_tf.data import Dataset, DataSettings, load
from pnil_tf.data.image_set import ImageSet
from pnil_tf.data.memory import check_room
from pnil_tf.data.settings import about
from pnil_tf.errors import RunFailedError, UserError, argument, repeated_with
from pnil_tf.evaluation.beside import Beside, take_away
from pnil_tf.evaluation.output import REPORT, refuse_existing
from pnil_tf.evaluation.runner import evaluate
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.evaluation.target import looked_at
from pnil_tf.files import refuse_file_in_the_way, sha256_of, understood
from pnil_tf.interruption import interruption_told
from pnil_tf.runs.continuation import same_images, way_back
from pnil_tf.runs.crew import WorkerFailedError, crew_of, leave_room_on_gpus, require_crew
from pnil_tf.runs.load import Loaded, load_model, load_source, read_run, refuse_no_model
from pnil_tf.runs.names import CERTIFICATE, EVALUATION, RUN
from pnil_tf.vocabulary import NORMS

logger = logging.getLogger(__name__)

# As bytes, twice while they are read, and as float32 with one attack's images beside them.
_BYTES_OF_A_PIXEL = 2 + 2 * 4


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

    def first_images(self, images: int, workers: int = 1) -> ImageSet:
        """The first test images with their classes, in memory.

        Args:
            images: How many, at most.
            workers: Processes that hold them.

        Raises:
            UserError: If memory would not hold them and what attacks make of them.
        """
        test = self.dataset.test
        images = min(images, len(test))
        height, width, channels = self.dataset.input_shape
        processes = f", in {workers} processes" if workers > 1 else ""
        check_room(
            f"{argument('images', images)}",
            workers * images * height * width * channels * _BYTES_OF_A_PIXEL,
            f"{images:,} images of {height} x {width} x {channels}{processes}",
            "Ask for fewer images, or for smaller ones with an image size.",
        )
        return test.rows(slice(images))


@dataclasses.dataclass(frozen=True)
class Settled:
    """What is to be evaluated, whether it was said or follows from the run.

    Args:
        model: A run's folder, a `.keras` file or a SavedModel folder.
        run: What the run's `run.json` says; empty for another model.
        epsilon: Radius of the attacks.
        norm: Norm of that radius.
        data: Where the images come from.
    """

    model: str
    run: Mapping[str, Any]
    epsilon: float
    norm: str
    data: DataSettings

    def folder(self, output: str | None, name: str) -> str:
        """The folder for what is found out: as said, or else one in the run's.

        Args:
            output: As said.
            name: Of the folder in a run's.

        Raises:
            UserError: If there is no run's folder, or a file in the way.
        """
        if output is None:
            if not self.run:
                raise UserError(
                    f"{self.model} is not a run's folder: say with {argument('output')} where the "
                    "results belong."
                )
            output = str(Path(self.model) / name)
        refuse_file_in_the_way(argument("output"), output)
        return output

    def load(self, pixel_range: PixelRange | None = None) -> Saved:
        """Loads the classifier and its images.

        Args:
            pixel_range: Of the model and of float images; by default the run's or export's.

        Raises:
            UserError: If one of them is missing or damaged.
        """
        loaded = load_model(self.model, self.run)
        images = load(self.data, pixel_range or loaded.pixel_range or UNIT)
        self._check_unseen(images)
        return Saved(loaded, self.epsilon, self.norm, images)

    def _check_unseen(self, images: Dataset) -> None:
        """Refuses a run's data that have changed: what is a test now may have been trained on.

        Raises:
            UserError: If they have.
        """
        with understood(Path(self.model) / RUN):
            own = "data" in self.run and _flat(self.run).get("dataset") == self.data.dataset
            changed = own and not same_images(self.run, images)
        if changed:
            raise UserError(
                f"The images of {self.data.dataset} are not those that the run was trained with, "
                "or are shared out in another way, so that today's test images may be among them. "
                f"{way_back(images.name)}, or give images of their own with "
                f"{argument('dataset')}."
            )


def settle(
    model: str,
    epsilon: float | None = None,
    data: Mapping[str, Any] | None = None,
    norm: str | None = None,
) -> Settled:
    """Settles what is to be evaluated: what was said, or else what the run says.

    Args:
        model: A run's folder, a `.keras` file or a SavedModel folder.
        epsilon: Radius of the attacks; by default that of the run's training.
        data: Fields of `DataSettings` that were said explicitly; the run's fill the rest.
        norm: Norm of the radius; by default the run's, or l_inf.

    Raises:
        UserError: If something is missing or does not fit.
    """
    refuse_no_model(model)
    run = read_run(model)
    with understood(Path(model) / RUN):
        said = _flat(run)
    trained_in = said.get("norm", NORMS[0])
    norm = norm or trained_in
    if epsilon is None:
        if said and norm != trained_in:
            raise UserError(
                f"{model} was trained at a radius in {trained_in}, which says nothing in {norm}: "
                f"give {argument('epsilon')} with {argument('norm', norm)}."
            )
        epsilon = said.get("epsilon")
    if epsilon is None:
        raise UserError(
            f"{model} does not say for which epsilon it was trained: give {argument('epsilon')}."
        )
    return Settled(model, run, epsilon, norm, _data_settings(model, said, data or {}))


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
    pixel_range: tuple[float, ...] | None = None,
    outputs: str | None = None,
    workers: int = 1,
    engine: str = "local",
    transfer_from: str | None = None,
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
        pixel_range: `(low, high)` of the pixels that the model takes; by default what its run or
            its export says, or else as for `evaluate`.
        outputs: As for `evaluate`.
        workers: Processes that share the images out.
        engine: What runs them, one of `ENGINES`.
        transfer_from: Path of another model, as for `evaluate`.

    Returns:
        The content of `results.json`.

    Raises:
        UserError: If something is missing or does not fit; before the work begins.
        RefutedError: If the attacks leave less than the run's certificate proves.
    """
    require_crew(workers, engine)
    settled = settle(model, epsilon, data, norm)
    settings = EvaluationSettings(epsilon=settled.epsilon, norm=settled.norm, **(options or {}))
    with understood(Path(model) / RUN):
        training = _training_in_words(_flat(settled.run))
    output = settled.folder(output, EVALUATION)
    given = None if pixel_range is None else PixelRange.of(pixel_range)
    proved = proved_of(model, settings)
    if not (resume or overwrite):
        refuse_existing(Path(output))  # before the images are read
    if workers > 1:
        leave_room_on_gpus()
    source = None if transfer_from is None else load_source(transfer_from)
    saved = settled.load(given)
    test = saved.first_images(settings.images, workers)
    chosen, outputs = given or saved.loaded.pixel_range, outputs or saved.loaded.outputs
    images = own_pixels(saved.loaded.model, test.images, chosen, outputs)
    shown = {Path(output), Path(model) / EVALUATION}
    refuted = refuted_taken_away(shown, Path(model) / CERTIFICATE)
    with failure_told(output), going_on_told(output), refuted:
        results = evaluate(
            saved.loaded.model,
            images,
            test.labels,
            settings,
            output,
            resume=resume,
            overwrite=overwrite,
            data=saved.dataset.describe(),
            model_identity=sha256_of(saved.loaded.file),
            kind=saved.loaded.kind + training,
            pixel_range=chosen,
            range_recorded=chosen is not None and given is None,
            outputs=outputs,
            name=model,
            crew=crew_of(model, images, test.labels, settings, workers, engine, source),
            transfer_from=source,
            beside=proved,
        )
    logger.info("The report is in %s", Path(output) / REPORT)
    return results


def proved_of(model: str, settings: EvaluationSettings) -> Beside | None:
    """What the certificate in a run's folder proves, if there is one that is not damaged.

    Args:
        model: The folder.
        settings: Those of the evaluation beside which it is put, if it fits.
    """
    folder = Path(model) / CERTIFICATE
    if not (folder / CERTIFIED).is_file():
        return None
    try:
        found = Certificate.load(folder)
    except UserError as error:
        logger.warning("The run's certificate is not put beside the evaluation. %s", error)
        return None

    return beside(found, settings.epsilon, settings.norm)


@contextlib.contextmanager
def refuted_taken_away(evaluations: Iterable[Path], certificate: Path) -> Iterator[None]:
    """Within it, what refutes a certificate takes its figures out of evaluations' reports.

    They are those of the certificate that stands in its folder before: a new one has none yet.
    """
    arrays: set[str] = set()
    with contextlib.suppress(OSError, UserError):  # whoever reads a damaged one says so
        arrays = stated_arrays(certificate)
    try:
        yield
    except RefutedError:
        for evaluation in evaluations:
            with contextlib.suppress(OSError, UserError):  # the certificate itself says it
                take_away(evaluation, certificate, arrays)
        raise


@contextlib.contextmanager
def failure_told(output: str) -> Iterator[None]:
    """Within it, the failure of a worker says what is kept in a folder, and how to go on."""
    try:
        yield
    except WorkerFailedError as error:
        raise RunFailedError(f"{error} {_kept_in(output)}") from error


def going_on_told(output: str) -> contextlib.AbstractContextManager[None]:
    """Within it, whoever interrupts is told what is kept in a folder, and how to go on."""

    def sentence() -> str:
        if not Path(output).exists():
            return f"Interrupted before anything was finished: there is no {output}."
        return f"Interrupted. {_kept_in(output)}"

    return interruption_told(sentence)


def _kept_in(output: str) -> str:
    return f"What was finished is kept in {output}: {repeated_with('resume')} goes on."


def own_pixels(
    model: Any, images: np.ndarray, pixel_range: PixelRange | None, outputs: str | None
) -> np.ndarray:
    """A data set's images as a model takes them: those of bytes are said so by their type.

    Args:
        model: The model.
        images: uint8, or float32 in [0, 1].
        pixel_range: As for `looked_at`.
        outputs: As for `looked_at`.
    """
    if images.dtype == np.uint8:
        return images
    looked = looked_at(model, images.shape[1:], pixel_range, outputs)
    return np.asarray(looked.pixel_range.from_unit(images))


def _flat(run: Mapping[str, Any]) -> dict[str, Any]:
    """The run's settings by name, whatever group they belong to."""
    flat: dict[str, Any] = {}
    for name, value in run.get("settings", {}).items():
        flat |= value if isinstance(value, dict) else {name: value}
    return flat


def _training_in_words(said: Mapping[str, Any]) -> str:
    """The attack of a training, which need not be that of the evaluation; empty if none is said."""
    if said.get("attack") == "none":
        return " without an attack"
    if said.get("epsilon") is None:
        return ""
    norm = said.get("norm", NORMS[0])
    radius = PixelRange.of(said.get("pixel_range", UNIT)).says(said["epsilon"], norm)
    return f" at epsilon {radius}, {norm}"


def _data_settings(model: str, run: Mapping[str, Any], given: Mapping[str, Any]) -> DataSettings:
    names = [field.name for field in dataclasses.fields(DataSettings)]
    values = {name: run[name] for name in names if run.get(name) is not None}
    if "dataset" in given:
        values = about(given["dataset"], values)
    values |= given
    if "dataset" not in values:
        raise UserError(
            f"{model} does not say on which data it was trained: give {argument('dataset')}."
        )
    return DataSettings(**values)
