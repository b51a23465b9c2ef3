"""One certificate from a model to its files."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import logging
import operator
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pnil_tf.arrays import Arrays, write_arrays
from pnil_tf.certificate import bounds
from pnil_tf.certificate.attacked import Attacked, Subject, attacked_in
from pnil_tf.certificate.both_sides import both_sides
from pnil_tf.certificate.counting import Counting
from pnil_tf.certificate.front import FrontNoise, check_passes, provable
from pnil_tf.certificate.output import (
    ARRAYS,
    REPORT,
    RESULTS,
    STATE,
    refuse_existing,
    refuse_foreign,
    sides_in,
)
from pnil_tf.certificate.proofs import Proofs, figures, proofs_of
from pnil_tf.certificate.report import render
from pnil_tf.certificate.result import Certificate
from pnil_tf.certificate.sampling import SCHEME, Sampler, whole_blocks
from pnil_tf.certificate.settings import CertificateSettings
from pnil_tf.certificate.withdrawn import RefutedError, refuse_withdrawn, withdraw
from pnil_tf.contract.pixel_range import PixelRangeLike, check_reach
from pnil_tf.contract.trace import EXAMPLES
from pnil_tf.errors import UserError, argument
from pnil_tf.evaluation.described import described
from pnil_tf.evaluation.fingerprint import fingerprint
from pnil_tf.evaluation.images import (
    check_classes,
    digests_of,
    first_images,
    range_is_told,
    unit_images,
    unknown_range,
    warn_of_copies,
)
from pnil_tf.evaluation.output import RESULTS as EVALUATED
from pnil_tf.evaluation.output import which_images
from pnil_tf.evaluation.runner import digest_of, name_of
from pnil_tf.evaluation.shards import Crew, Shard
from pnil_tf.evaluation.store import Store, check_identity, identity_in
from pnil_tf.evaluation.target import Target, looked_at, range_is_known, target_of
from pnil_tf.files import (
    lock_folder,
    make_folder,
    read_json,
    refuse_odd_entries,
    sha256_of,
    tidy,
    understood,
    write_record,
    write_text,
)
from pnil_tf.logs import errors_only
from pnil_tf.progress import Stage, Stages
from pnil_tf.version import __version__, versions

logger = logging.getLogger(__name__)


# Every model is a new graph, and rightly so; TensorFlow would warn of each.
@errors_only("tensorflow")
def certify(
    model: Any,
    images: np.ndarray,
    labels: np.ndarray | None,
    settings: CertificateSettings,
    output: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    data: Mapping[str, Any] | None = None,
    places: np.ndarray | None = None,
    model_identity: str | None = None,
    pixel_range: PixelRangeLike | None = None,
    outputs: str | None = None,
    name: str | None = None,
    evaluations: Sequence[Path] = (),
    must_fit: bool = True,
    verbose: int = 1,
    crew: Crew | None = None,
) -> Certificate:
    """Proves what it can of a classifier, and leaves its files in `output`.

    Args:
        model: A Keras model, or an `AdversarialModel`.
        images: As for `pnil_tf.evaluation.runner.evaluate`.
        labels: int `(n,)`, class indices; without them answers are proved to stay, not right.
        settings: What to do.
        output: Folder for the files.
        resume: Whether to go on with a certificate of the same that was cut off.
        overwrite: Whether to replace what `output` holds.
        data: As for `evaluate`.
        places: As for `evaluate`.
        model_identity: As for `evaluate`.
        pixel_range: As for `evaluate`.
        outputs: As for `evaluate`.
        name: What to call the model in the report.
        evaluations: Folders of evaluations to compare with, each at its own radius, of the same
            model, images and norm.
        must_fit: Whether an evaluation that is missing, damaged or about another subject is
            refused; it is left out otherwise, and the log says why.
        verbose: 0 for silence, 1 for a bar (lines where there is no terminal), 2 for lines.
        crew: Processes that draw; by default this one does.

    Raises:
        UserError: If the model's robustness cannot be proved this way, or images, labels, model
            and settings do not fit each other, or an evaluation does not fit them.
        RefutedError: If attacks have left less than is proved to be left. The files in `output`
            then say that nothing is proved.
    """
    output = Path(output)
    refuse_odd_entries(output)
    if not (resume or overwrite):
        refuse_existing(output)
    refuse_foreign(output)
    if resume:
        refuse_withdrawn(output)
    settings = settings.seeded(_seed_in(output) if resume else None)
    task = _task(model, images, labels, settings, model_identity, pixel_range, outputs)
    front, target, x, y, identity = task.front, task.target, task.x, task.y, task.identity
    data = described(data, target.num_classes)
    if labels is not None:
        check_classes(target, y, data)
    digests = digests_of(x)
    warn_of_copies(digests)
    attacked = _attacked(task, digests, settings, evaluations, must_fit)
    if resume and (output / RESULTS).is_file() and not (output / STATE).exists():
        tidy(output)
        found = Certificate.load(output)
        with understood(output / RESULTS):
            check_identity(found.results["identity"], identity, output)
        known = sides_in(found.results)
        # Of those that were not named, others than the run's own stay.
        stay = [] if must_fit else [sides for sides in known if not _among(sides, evaluations)]
        stay += [sides for sides in known if any(one.is_of(sides) for one in attacked)]
        new = [one for one in attacked if not any(map(one.is_of, known))]
        radii = [point["epsilon"] for point in found.results["curve"]]
        redrawn = bool(settings.epsilons) and radii != list(settings.curve())
        if not new and len(stay) == len(known) and not redrawn:
            return found
        drawn = found.recorded
        proofs = _proofs(front, x, drawn["selected"], drawn["hits"], settings)
        results = dict(found.results)
        if redrawn:
            results |= figures(
                proofs, None if labels is None else y, settings.curve(), settings.norm
            )
            results["certified"] = _own(results["curve"], settings)
            results["settings"] = {**results["settings"], "epsilons": list(settings.epsilons)}
        with lock_folder(output):
            sides = _compared(proofs, y, settings, new, output, found.results, stay)
            _write(output, {**results, "both_sides": sides})
        return Certificate.load(output)
    make_folder(argument("output"), output)
    with lock_folder(output):
        if not (resume or overwrite):
            refuse_existing(output)
        store = Store(output / STATE, identity, resume)
        stages = Stages("certificate", verbose)
        with contextlib.closing(stages):
            drawn = _drawn(task.counting(settings, store), stages, crew, task, output / STATE)
        proofs = _proofs(front, x, drawn["selected"], drawn["hits"], settings)
        said = figures(proofs, None if labels is None else y, settings.curve(), settings.norm)
        results = {
            "certified": _own(said["curve"], settings),
            **said,
            "images": len(x),
            "labels": labels is not None,
            "noise": _about_noise(front, x, settings),
            "model": target.describe(),
            "model_name": name or name_of(target),
            "data": data,
            "settings": settings.to_json(),
            "identity": identity,
            "seconds": float(drawn["seconds"].sum()),
            "draws_per_second": _rate(drawn, settings),
            "versions": {**versions(), "platform": platform.platform()},
            "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        }
        write_arrays(
            output / ARRAYS,
            {
                **_arrays(proofs, None if labels is None else y, settings.epsilon),
                **which_images(digests, places),
            },
        )
        results["arrays"] = {"file": ARRAYS, "sha256": sha256_of(output / ARRAYS)}
        results["both_sides"] = _compared(proofs, y, settings, attacked, output, results)
        _write(output, results)
        store.remove()
    return Certificate(output, read_json(output / RESULTS))


def _own(curve: Sequence[dict[str, Any]], settings: CertificateSettings) -> dict[str, Any]:
    """The point of the curve at the certificate's own radius."""
    return next(point for point in curve if point["epsilon"] == settings.epsilon)


def _among(sides: Mapping[str, Any], evaluations: Sequence[Path]) -> bool:
    known = Path(sides["evaluation"]).resolve()
    return any(known == evaluation.resolve() for evaluation in evaluations)


def _seed_in(output: Path) -> int | None:
    """The seed of the certificate in a folder, begun or finished, if there is one."""
    identity = identity_in(output / STATE)
    if identity is None and (output / RESULTS).is_file():
        identity = read_json(output / RESULTS)["identity"]
    return None if identity is None else int(identity["settings"]["seed"])


@dataclasses.dataclass(frozen=True)
class _Task:
    front: FrontNoise
    target: Target
    x: np.ndarray
    y: np.ndarray
    identity: dict[str, Any]

    def counting(self, settings: CertificateSettings, store: Store) -> Counting:
        classifier = self.target.classifier
        at_once = _at_once(self.target, settings)
        sampler = Sampler(classifier.predict, self.x.shape[1:], classifier.classes, at_once)
        return Counting(sampler, self.x, settings, store)


def _at_once(target: Target, settings: CertificateSettings) -> int:
    """Draws in one pass."""
    return whole_blocks(min(settings.batch_size, target.room.points))


def _task(
    model: Any,
    images: np.ndarray,
    labels: np.ndarray | None,
    settings: CertificateSettings,
    model_identity: str | None,
    pixel_range: PixelRangeLike | None,
    outputs: str | None,
) -> _Task:
    """Finds out what there is to do; the arguments are those of `certify`."""
    placeholder = np.zeros(len(images), np.int32)
    images, y = first_images(images, placeholder if labels is None else labels, settings.images)
    classifier = looked_at(model, images.shape[1:], pixel_range, outputs)
    check_reach(settings.epsilon, settings.norm, images.shape[1:])
    known = range_is_known(model, pixel_range)
    if not (known or range_is_told(classifier, images)):
        raise unknown_range("it does not scale them itself")
    x = unit_images(images, classifier.pixel_range, known)
    front = provable(classifier, x[:EXAMPLES])
    target = target_of(classifier, x)
    check_passes(classifier, x[:EXAMPLES], _at_once(target, settings))
    identity = {
        "settings": {**settings.to_json(), "batch_size": None, "epsilons": None},
        "data": digest_of(x, y),
        "labels": labels is not None,
        "model": model_identity or fingerprint(target),
        "pixel_range": target.describe()["pixel_range"],
        "generator": SCHEME,
        "version": __version__,
    }
    return _Task(front, target, x, y, identity)


def certify_shard(
    model: Any,
    images: np.ndarray,
    labels: np.ndarray | None,
    settings: CertificateSettings,
    output: str | Path,
    shard: Shard,
    *,
    model_identity: str,
    pixel_range: PixelRangeLike | None,
    outputs: str,
) -> None:
    """Counts the draws of a part of the images for a `certify` that waits for them.

    Args:
        model: The model of that certificate. So for the other arguments.
        images: Its images.
        labels: Their classes, if it has any.
        settings: What it does.
        output: Its folder.
        shard: Which part.
        model_identity: Fingerprint of the model.
        pixel_range: The pixels that the model takes.
        outputs: What the model answers.

    Raises:
        UserError: If the certificate that works in the folder is another one.
    """
    task = _task(model, images, labels, settings, model_identity, pixel_range, outputs)
    store = Store(Path(output) / STATE, task.identity, resume=True, shared=True)
    task.counting(settings, store).of_shard(shard)


def _drawn(
    counting: Counting, stages: Stages, crew: Crew | None, task: _Task, state: Path
) -> Arrays:
    """Counts what the draws answer, here or by a crew, and shows how far that is."""
    stages.expect({"draws": 1.0})
    stage = stages.begin("draws", len(task.x))
    if crew is None:
        drawn = counting.of_all(stage.advance_to)
    else:
        look = functools.partial(_look, counting, stage)
        crew.work_off(task.target, task.identity, state, look)
        drawn = counting.of_all()
    stage.close()
    return drawn


def _look(counting: Counting, stage: Stage) -> None:
    stage.advance_to(counting.images_done())


def _proofs(
    front: FrontNoise,
    x: np.ndarray,
    selected: np.ndarray,
    hits: np.ndarray,
    settings: CertificateSettings,
) -> Proofs:
    return proofs_of(front, x, selected, hits, settings.draws, settings.alpha, settings.norm)


def _rate(drawn: Arrays, settings: CertificateSettings) -> float:
    draws = len(drawn["hits"]) * (settings.draws + settings.selection_draws)
    return float(draws / max(drawn["seconds"].sum(), 1e-9))


def _about_noise(front: FrontNoise, x: np.ndarray, settings: CertificateSettings) -> dict[str, Any]:
    """What the report says of the noise, and by which theorem it proves."""
    sigma = front.sigma(x[0])
    about: dict[str, Any] = {
        "layer": front.layer.name,
        "fixed": front.fixed,
        "method": front.method,
        "sigma": {"least": float(sigma.min()), "median": float(np.median(sigma))},
        "sensitivity": None,
        "largest_radius": None,
    }
    if front.fixed:
        sensitivity = bounds.sensitivity(sigma, settings.norm)
        best = bounds.lower_confidence(settings.draws, settings.draws, settings.alpha)
        about["sensitivity"] = sensitivity
        about["largest_radius"] = float(bounds.fixed_radius(best, sensitivity))
    return about


def _attacked(
    task: _Task,
    digests: np.ndarray,
    settings: CertificateSettings,
    evaluations: Sequence[Path],
    must_fit: bool,
) -> list[Attacked]:
    """What the attacks left in each evaluation, without those that do not fit and need not."""
    there = [one for one in evaluations if must_fit or (one / EVALUATED).is_file()]
    if not there:
        return []
    subject = Subject(task.identity, digests, task.y, settings.norm)
    found = []
    for evaluation in there:
        try:
            if not task.identity["labels"]:
                raise UserError(
                    f"The evaluation in {evaluation} does not fit a certificate without labels. "
                    "Give the labels, or no evaluation."
                )
            found.append(attacked_in(evaluation, subject))
        except UserError as error:
            if must_fit:
                raise
            logger.warning("No evaluation is put beside the certificate. %s", error)
    return found


def _compared(
    proofs: Proofs,
    y: np.ndarray,
    settings: CertificateSettings,
    attacked: Sequence[Attacked],
    output: Path,
    results: dict[str, Any],
    known: Sequence[dict[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Both sides at each radius, those that are known among them.

    The results are withdrawn where the attacks refute them at any of the radii.
    """
    sides = list(known)
    for one in attacked:
        try:
            found = both_sides(proofs, y, one.votes, one.epsilon, settings.norm, settings.alpha)
        except RefutedError as error:
            withdraw(output, results, str(error))
            raise
        sides.append({**found, **one.mark})
    return sorted(sides, key=operator.itemgetter("epsilon"))


def _arrays(proofs: Proofs, y: np.ndarray | None, epsilon: float) -> Arrays:
    """What is proved of each image."""
    arrays = {
        "selected": proofs.selected,
        "answer": proofs.answer,
        "hits": proofs.hits,
        "share": proofs.share,
        "single_draw": proofs.single_draw(epsilon),
        **{f"radius_{norm}": radius for norm, radius in proofs.radius.items()},
    }
    return arrays if y is None else {**arrays, "labels": y}


def _write(output: Path, results: dict[str, Any]) -> None:
    write_text(output / REPORT, render(results))
    write_record(output / RESULTS, results)
