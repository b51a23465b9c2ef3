"""One evaluation from a model to its results."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import logging
import platform
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pnil_tf.arrays import Arrays, write_arrays
from pnil_tf.contract.checks import has_input_gradient
from pnil_tf.contract.pixel_range import PixelRangeLike, check_reach
from pnil_tf.data.memory import check_room
from pnil_tf.errors import UserError, argument
from pnil_tf.evaluation.beside import Beside, Compare
from pnil_tf.evaluation.described import described
from pnil_tf.evaluation.fingerprint import fingerprint
from pnil_tf.evaluation.forecast import forecast, measured
from pnil_tf.evaluation.further import Look, first_stages, further_stages, look_at
from pnil_tf.evaluation.images import (
    check_accuracy_elsewhere,
    check_classes,
    digests_of,
    first_images,
    range_is_told,
    unit_images,
    warn_of_copies,
)
from pnil_tf.evaluation.judge import NO_ANSWER
from pnil_tf.evaluation.obfuscation import run_checks
from pnil_tf.evaluation.obfuscation.evidence import Evidence
from pnil_tf.evaluation.output import (
    ADVERSARIAL,
    ARRAYS,
    REPORT,
    RESULTS,
    STATE,
    batch_size_begun_with,
    finished,
    put_in_place,
    refuse_existing,
    refuse_foreign,
    which_images,
)
from pnil_tf.evaluation.probes import announced, curve_epsilons, gather
from pnil_tf.evaluation.report import write_report
from pnil_tf.evaluation.room import with_batch_size
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.evaluation.shards import Crew, Shard, pieces_of, work_off
from pnil_tf.evaluation.statistics import figure, weakest, wilson
from pnil_tf.evaluation.store import Store
from pnil_tf.evaluation.suites import Planned, cascade, gradients_alone, identity_of, planned
from pnil_tf.evaluation.target import (
    Target,
    check_batch,
    looked_at,
    range_is_known,
    target_of,
    was_trained,
)
from pnil_tf.evaluation.transfer import Source
from pnil_tf.evaluation.trial import CLEAN, Outcome, Trial, piece_of_suite
from pnil_tf.evaluation.verdict import decide, worst_per_image
from pnil_tf.files import (
    lock_folder,
    make_folder,
    read_json,
    refuse_odd_entries,
    sha256_of,
    write_record,
)
from pnil_tf.logs import errors_only
from pnil_tf.progress import Stages, clock
from pnil_tf.version import __version__, versions
from pnil_tf.vocabulary import SUITES

logger = logging.getLogger(__name__)

_CREW = "attacks by several processes"
_UNPERTURBED = "unperturbed"


# Every attack is a new graph, and rightly so; TensorFlow would warn of each.
@errors_only("tensorflow")
def evaluate(
    model: Any,
    images: np.ndarray,
    labels: np.ndarray,
    settings: EvaluationSettings,
    output: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    data: Mapping[str, Any] | None = None,
    places: np.ndarray | None = None,
    model_identity: str | None = None,
    kind: str | None = None,
    pixel_range: PixelRangeLike | None = None,
    range_recorded: bool = False,
    outputs: str | None = None,
    name: str | None = None,
    verbose: int = 1,
    crew: Crew | None = None,
    transfer_from: Any = None,
    beside: Beside | None = None,
) -> dict[str, Any]:
    """Evaluates a classifier and leaves `results.json`, `arrays.npz` and `report.html`.

    Args:
        model: A Keras model, an `AdversarialModel`, or a callable from images to logits or
            probabilities: of several classes, or one output that speaks for class 1 of two.
        images: `(n, height, width, channels)`: uint8 from 0 to 255, or other numbers in the
            model's own pixel range. The first `settings.images` are used, or all if there are
            fewer.
        labels: int `(n,)`, class indices.
        settings: What to do.
        output: Folder for the results.
        resume: Whether to go on with an evaluation of the same that was cut off.
        overwrite: Whether to replace what `output` holds.
        data: Where the images come from, JSON types; its `num_classes`, if there is one, must
            be the model's.
        places: int, at least as many as there are images: which image each of them was where they
            came from. By default they are the first.
        model_identity: Fingerprint of the model's file. A stochastic callable without one cannot
            be told from others, so its evaluation cannot be resumed.
        kind: What the model was on the disk, one phrase.
        pixel_range: `(low, high)` of the pixels that the model takes. By default an
            `AdversarialModel`'s own, that which the model's preprocessing suits (0 to 255 where it
            begins with `Rescaling(1 / 255)`), and (0, 1) where nothing tells.
        range_recorded: Whether a training or an export has left this range beside the model: then
            it holds, however little the model recognises in it.
        outputs: What the model answers, one of `pnil_tf.contract.outputs.KINDS`, where nothing
            else tells: one output may be a logit or a probability.
        name: What to call the model in the report; a Keras model has a name of its own.
        verbose: 0 for silence, 1 for a bar (lines where there is no terminal), 2 for lines.
        crew: Processes that do the attacks; by default this one does.
        transfer_from: Another model of the same images and classes, or a `Source` that says more
            about it. The attack 'transfer' looks for adversarial images along its gradients; they
            are judged on `model`.
        beside: Says what is proved of the same images, which the report then shows, too; asked
            before the work begins.

    Returns:
        The content of `results.json`. Adversarial images are kept in [0, 1].

    Raises:
        UserError: If images, labels, model and settings do not fit each other, the model guesses
            in this pixel range and does not in another one, or `output` holds results that are
            neither to be resumed nor to be replaced.
    """
    output = Path(output)
    refuse_odd_entries(output)
    if not (resume or overwrite):
        refuse_existing(output)
    refuse_foreign(output)
    if resume and settings.batch_size is None:
        settings = dataclasses.replace(settings, batch_size=batch_size_begun_with(output))
    task = _task(
        model,
        images,
        labels,
        settings,
        model_identity,
        kind,
        pixel_range,
        outputs,
        transfer_from,
        1 if crew is None else crew.workers,
    )
    target, x, y, identity, settings = task.target, task.x, task.y, task.identity, task.settings
    if not (target.classifier.preprocessing_understood or range_is_known(model, pixel_range)):
        logger.warning(
            "What the model does to its pixels first does not tell their range. %s is assumed: "
            "give %s if it takes other pixels.",
            target.pixel_range,
            argument("pixel_range"),
        )
    data = described(data, target.num_classes)
    check_classes(target, y, data)
    check_reach(max((settings.epsilon, *settings.epsilons)), settings.norm, x.shape[1:])
    results = finished(output, identity) if resume else None
    if results is not None:
        if settings.save_adversarial and not (output / ADVERSARIAL).is_file():
            raise UserError(
                f"The evaluation in {output} is finished and has not kept its adversarial images. "
                f"Received: {argument('resume')} with {argument('save_adversarial')}. Evaluate "
                f"again with {argument('overwrite')}."
            )
        logger.info("The evaluation in %s is finished.", output)
        return results
    if not (range_recorded or was_trained(model)):
        known = range_is_known(model, pixel_range)
        told = range_is_told(target.classifier, images)
        check_accuracy_elsewhere(target, x, y, known, told)
    logger.info(
        "%s, pixels in %s; epsilon %s",
        target.outputs,
        target.pixel_range,
        target.pixel_range.says(settings.epsilon, settings.norm),
    )
    digests = digests_of(x)
    warn_of_copies(digests)
    if gradients_alone(settings) and transfer_from is None:
        _warn_without_gradients(target, x)
    compare = None if beside is None else beside(identity, digests, y)
    make_folder(argument("output"), output)
    with lock_folder(output):
        if not (resume or overwrite):
            refuse_existing(output)  # another process may have been faster
        store = Store(output / STATE, identity, resume)
        stages = Stages("evaluation", verbose)
        trial = Trial(target, x, y, settings, store, stages)
        attacks = task.attacks
        first, further = first_stages(attacks), further_stages(attacks)
        workers = 1 if crew is None else crew.workers
        predicted, at_most = _announce(trial, first, further, workers)
        about = {
            "data": data,
            "identity": identity,
            "model_name": name or name_of(target),
            "predicted_seconds": predicted,
        }

        def have_done(some: Mapping[str, Planned]) -> None:
            if crew is not None:
                _have_done(trial, some, crew, identity, output / STATE)

        def go_further(standing: float) -> None:
            stages.expect_more({name: standing * seconds for name, seconds in at_most.items()})
            have_done(further)

        with contextlib.closing(stages):
            have_done(first)
            whose = which_images(digests, places)
            _work(trial, attacks, whose, output / STATE, about, compare, go_further)
        put_in_place(output)
        store.remove()
    return read_json(output / RESULTS)


@dataclasses.dataclass(frozen=True)
class _Task:
    target: Target
    x: np.ndarray
    y: np.ndarray
    settings: EvaluationSettings
    attacks: Mapping[str, Planned]
    identity: dict[str, Any]


def _task(
    model: Any,
    images: np.ndarray,
    labels: np.ndarray,
    settings: EvaluationSettings,
    model_identity: str | None,
    kind: str | None,
    pixel_range: PixelRangeLike | None,
    outputs: str | None,
    transfer_from: Any,
    workers: int = 1,
) -> _Task:
    """Finds out what there is to do; the arguments are those of `evaluate`."""
    images, y = first_images(images, labels, settings.images)
    classifier = looked_at(model, images.shape[1:], pixel_range, outputs)
    x = unit_images(images, classifier.pixel_range, range_is_known(model, pixel_range))
    target = target_of(classifier, x, kind)
    given = None if transfer_from is None else Source.of(transfer_from)
    source = None if given is None else given.target(images, y, target)
    settings = with_batch_size(settings, target.room, workers)
    check_batch(target, x[: settings.batch_size])
    attacks = planned(settings, target, source)
    _check_draws(target, settings, len(attacks), len(x))
    _check_losses(target, attacks)
    identity = {
        "settings": {**settings.to_json(), "save_adversarial": None, "effort": None},
        "data": digest_of(x, y),
        "model": model_identity or fingerprint(target),
        "pixel_range": target.describe()["pixel_range"],
        "version": __version__,
        "attacks": identity_of(attacks),
    }
    if given is not None and source is not None:
        identity["transfer_from"] = given.identity or fingerprint(source)
    return _Task(target, x, y, settings, attacks, identity)


@errors_only("tensorflow")
def evaluate_shard(
    model: Any,
    images: np.ndarray,
    labels: np.ndarray,
    settings: EvaluationSettings,
    output: str | Path,
    shard: Shard,
    *,
    model_identity: str,
    pixel_range: PixelRangeLike | None,
    outputs: str,
    transfer_from: Any = None,
) -> None:
    """Does the attacks on a part of the images for an `evaluate` that waits for them.

    Args:
        model: The model of that evaluation. So for the other arguments.
        images: Its images.
        labels: Their classes.
        settings: What it does.
        output: Its folder.
        shard: Which part.
        model_identity: Fingerprint of the model.
        pixel_range: The pixels that the model takes.
        outputs: What the model answers.
        transfer_from: The other model.

    Raises:
        UserError: If the evaluation that works in the folder is another one.
    """
    task = _task(
        model, images, labels, settings, model_identity, None, pixel_range, outputs, transfer_from
    )
    store = Store(Path(output) / STATE, task.identity, resume=True, shared=True)
    work_off(Trial(task.target, task.x, task.y, task.settings, store), task.attacks, shard)


def _have_done(
    trial: Trial,
    attacks: Mapping[str, Planned],
    crew: Crew,
    identity: Mapping[str, Any],
    state: Path,
) -> None:
    """Has a crew do the attacks, and shows how many pieces of them there are already."""
    waiting = set(pieces_of(trial, attacks))
    total = len(waiting)
    progress = trial.stages.begin(_CREW, total, "piece")

    def look() -> None:
        waiting.difference_update([piece for piece in waiting if trial.store.holds(piece)])
        progress.advance_to(total - len(waiting))

    crew.work_off(trial.target, identity, state, look)
    progress.close()


def _warn_without_gradients(target: Target, x: np.ndarray) -> None:
    """Says so, before the work, where attacks along gradients would have nothing to follow."""
    if has_input_gradient(target.classifier, x[:10]):
        return
    logger.warning(
        "The classifier's answers have no gradient with respect to the pixels: attacks that "
        "follow gradients change nothing here, and what they leave says nothing. Let %s have "
        "'square' or 'auto' in it, or give %s a similar model that has gradients.",
        argument("attacks"),
        argument("transfer_from"),
    )


def _announce(
    trial: Trial, first: Mapping[str, Planned], further: Mapping[str, Planned], workers: int
) -> tuple[float, dict[str, float]]:
    """Predicts how many seconds the evaluation will take at most, and says so.

    Returns:
        The seconds without the further stages, and those of each of the latter.
    """
    own = {name: attack.settings for name, attack in first.items()}
    work = {name: (attack.settings, attack.images) for name, attack in {**first, **further}.items()}
    work |= announced(trial, own, curve_epsilons(trial.settings))
    seconds = forecast(trial, work, measured(trial.target, trial.x))
    at_most = {name: seconds.pop(name) for name in further}
    if workers > 1:  # this process has nothing left to do of what they have done
        theirs = [seconds.pop(name) for name in (CLEAN, *first)]
        seconds = {_CREW: sum(theirs) / workers, **seconds}
        at_most = {_CREW: sum(at_most.values()) / workers}
    total, more = sum(seconds.values()), ""
    if further:
        [name] = {attack.if_much_by for attack in further.values()}
        more = f"; up to {clock(sum(at_most.values()))} more if {name} takes much"
    trial.stages.say(
        f"{len(trial.x)} images, effort {trial.settings.effort}: this will take about "
        f"{clock(total)}, less where images fall early{more}."
    )
    trial.stages.expect(seconds)
    return total, at_most


def name_of(target: Target) -> str:
    """What the user called the model, if Keras has not: it numbers models in every process."""
    model = target.classifier.model
    name = str(getattr(model, "name", None) or getattr(model, "__name__", ""))
    return type(model).__name__ if re.fullmatch(r"(sequential|functional)(_\d+)?|", name) else name


def _attacked(
    trial: Trial, attacks: Mapping[str, Planned], go_further: Callable[[float], None]
) -> tuple[dict[str, Outcome], Look | None]:
    """What the attacks left, and the look that decided on the further stages, if there are any."""
    outcomes: dict[str, Outcome] = {}
    look: Look | None = None
    for name, attack in attacks.items():
        if attack.if_much_by is not None:
            if look is None:
                look = look_at(trial, attacks, outcomes)
                if look.much:
                    trial.stages.say(look.says)
                    go_further(float((outcomes[attack.if_much_by].share > 0).mean()))
            if not look.much:
                continue
        outcomes[name] = trial.attack(
            name,
            attack.settings,
            attack.images,
            attack.predict,
            outcomes[attack.after] if attack.after else None,
        )
    return outcomes, look


def _work(
    trial: Trial,
    attacks: Mapping[str, Planned],
    whose: Arrays,
    folder: Path,
    about: dict[str, Any],
    compare: Compare | None,
    go_further: Callable[[float], None],
) -> None:
    """Attacks, judges, checks, and writes the results' files into a folder."""
    settings, y = trial.settings, trial.y
    clean = trial.clean_votes()
    trial.stages.say(f"clean: accuracy {trial.share(clean).mean():.1%} on {len(y)} images")
    unanswered = float((clean == NO_ANSWER).mean())
    if unanswered:
        logger.warning(
            "%.1f%% of the model's answers to your images, as they are, are NaN or infinite: they "
            "count as wrong.",
            100 * unanswered,
        )
    outcomes, look = _attacked(trial, attacks, go_further)
    worst_votes, worst_images = _worst_case(trial, "worst-case", trial.share(clean), outcomes)
    suites = _suites(trial, trial.share(clean), outcomes)
    # Before the checks: where the two sides contradict each other, no verdict counts.
    sides = None if compare is None else compare(worst_votes)
    evidence = gather(trial, trial.share(clean), outcomes, curve_epsilons(settings), unanswered)
    results = {
        **_judgement(trial, clean, outcomes, suites, worst_votes, evidence),
        "settings": settings.to_json(),
        "model": {**trial.target.describe(), "sigma": evidence.sigma},
        **about,
        "further_stages": None if look is None else look.to_json(),
        "seed": settings.seed,
        "versions": {**versions(), "platform": platform.platform()},
        "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "attack_seconds": sum(outcome.seconds for outcome in outcomes.values()),
        "attack_cpu_seconds": sum(outcome.cpu_seconds for outcome in outcomes.values()),
        "process_seconds": time.monotonic() - trial.begun,
    }
    if sides is not None:
        results["both_sides"] = dict(sides)
    arrays = {
        "labels": y,
        **whose,
        "clean_votes": clean,
        "worst_case_votes": worst_votes,
    }
    arrays |= {f"{name}_votes": outcome.votes for name, outcome in outcomes.items()}
    write_arrays(folder / ARRAYS, arrays)
    results["arrays"] = {"file": ARRAYS, "sha256": sha256_of(folder / ARRAYS)}
    if settings.save_adversarial:
        _save_adversarial(folder / ADVERSARIAL, trial, outcomes, worst_images)
        results["adversarial"] = {"file": ADVERSARIAL, "sha256": sha256_of(folder / ADVERSARIAL)}
    attacks_and_suites = outcomes | {name: left for name, (_, left) in suites.items()}
    write_report(folder / REPORT, results, trial, clean, attacks_and_suites)
    write_record(folder / RESULTS, results)


def _check_draws(target: Target, settings: EvaluationSettings, attacks: int, images: int) -> None:
    """Refuses more votes of the judge than the memory can hold."""
    draws = settings.judge_draws if target.stochastic else 1
    kinds = attacks + 2  # unperturbed images, and the worst case
    check_room(
        "The evaluation",
        kinds * images * draws * np.dtype(np.int32).itemsize,
        f"{draws:,} draws for each of {images:,} images, {kinds} times,",
        "Judge by fewer draws, or fewer images.",
    )


def _check_losses(target: Target, attacks: Mapping[str, Planned]) -> None:
    for name, attack in attacks.items():
        if "dlr" in attack.settings.losses and target.num_classes < 3:
            raise UserError(
                f"The DLR loss, here that of {name!r}, needs three classes, and the model has "
                f"{target.num_classes}. Use the loss 'margin'."
            )


def _worst_case(
    trial: Trial, name: str, clean: np.ndarray, outcomes: dict[str, Outcome]
) -> tuple[np.ndarray, np.ndarray]:
    """Judges for each image the image in its ball that did worst, by draws of its own.

    The draws belong to `name`.

    The unperturbed one is among them: an attack may mend a mistake. The draws that chose it must
    not judge it: the lowest of several noisy looks is too low.
    """
    attacked = max(len(outcome.share) for outcome in outcomes.values())
    shares = {name: outcome.share for name, outcome in outcomes.items()}
    chosen = worst_per_image({**shares, _UNPERTURBED: clean[:attacked]})
    worst = trial.store.rows()
    for i, name_of_worst in enumerate(chosen):
        found = trial.x if name_of_worst == _UNPERTURBED else outcomes[name_of_worst].adversarial
        worst.add(found[i : i + 1])
    images = worst.together()
    return trial.votes(name, images), images


def _suites(
    trial: Trial, clean: np.ndarray, outcomes: dict[str, Outcome]
) -> dict[str, tuple[tuple[str, ...], Outcome]]:
    """The stages of each suite that ran, and what it left: each image as the worst of them did.

    The last of them has kept the worst so far, but for the unperturbed image.
    """
    suites = {}
    for name in trial.settings.attacks:
        if name not in SUITES:
            continue
        stages = cascade(name, trial.target, trial.settings.norm)
        ran = {stage: outcome for stage, outcome in outcomes.items() if stage in stages}
        votes, images = _worst_case(trial, piece_of_suite(name), clean, ran)
        *_, last = ran.values()
        left = dataclasses.replace(last, adversarial=images, votes=votes, share=trial.share(votes))
        suites[name] = tuple(ran), left
    return suites


def _judgement(
    trial: Trial,
    clean: np.ndarray,
    outcomes: dict[str, Outcome],
    suites: Mapping[str, tuple[tuple[str, ...], Outcome]],
    worst: np.ndarray,
    evidence: Evidence,
) -> dict[str, Any]:
    settings, y = trial.settings, trial.y
    attacks = {
        name: _attack_figure(outcome, y, settings.target_class)
        for name, outcome in outcomes.items()
    }
    whole = {name: figure(left.votes, y[: len(left.votes)]) for name, (_, left) in suites.items()}
    shares = {name: outcome.share for name, outcome in outcomes.items()}
    # The stages of a suite are one attack.
    of_suites = {stage for stages, _ in suites.values() for stage in stages}
    one_by_one = {name: left.share for name, (_, left) in suites.items()} | {
        name: share for name, share in shares.items() if name not in of_suites
    }
    strongest = weakest(one_by_one)
    findings = run_checks(evidence)
    verdict = decide(
        findings,
        wilson(trial.share(clean)),
        wilson(one_by_one[strongest]),
        strongest,
        evidence.guessing,
        settings.epsilon,
        trial.target.pixel_range,
        settings.norm,
    )
    return {
        "verdict": verdict.verdict,
        "verdict_reason": verdict.reason,
        "clean": figure(clean, y),
        "guessing": {"value": evidence.guessing, "class": int(np.bincount(y).argmax())},
        "effective_robustness": _named({**attacks, **whole}, strongest),
        "worst_case_per_image": figure(worst, y[: len(worst)]),
        "suites": whole,
        "attacks": attacks,
        "findings": [finding.to_json() for finding in findings],
        "epsilon_curve": [
            {"epsilon": epsilon, **_point(share)} for epsilon, share in evidence.epsilon_curve
        ],
        "eot_curve": [{"draws": draws, **_point(share)} for draws, share in evidence.eot_curve],
        "noise_cells": None
        if evidence.cells is None
        else {
            field.name: _point(share)
            for field in dataclasses.fields(evidence.cells)
            if (share := getattr(evidence.cells, field.name)) is not None
        },
    }


def _attack_figure(outcome: Outcome, y: np.ndarray, target: int | None) -> dict[str, Any]:
    images = len(outcome.votes)
    reached: dict[str, Any] = {}
    if target is not None and (y[:images] != target).any():
        others = outcome.votes[y[:images] != target]
        reached["reached"] = _point((others == target).mean(axis=1))
    return {
        **figure(outcome.votes, y[:images]),
        **reached,
        "seconds": outcome.seconds,
        "cpu_seconds": outcome.cpu_seconds,
        "images_per_second": images / outcome.seconds if outcome.seconds else None,
        "settings": dataclasses.asdict(outcome.settings),
    }


def _named(attacks: dict[str, Any], name: str) -> dict[str, Any]:
    keys = ("value", "low", "high", "images", "draws", "noise_std", "majority_vote", "worst_draw")
    return {"attack": name, **{key: attacks[name][key] for key in keys}}


def _point(share: np.ndarray) -> dict[str, Any]:
    return {**wilson(share).to_json(), "images": len(share)}


def _save_adversarial(
    file: Path, trial: Trial, outcomes: dict[str, Outcome], worst: np.ndarray
) -> None:
    arrays: Arrays = {"images": trial.x, "labels": trial.y, "worst_case": worst}
    write_arrays(file, arrays | {name: outcome.adversarial for name, outcome in outcomes.items()})


def digest_of(x: np.ndarray, y: np.ndarray) -> str:
    """Stands for images and their labels."""
    digest = hashlib.sha256(repr(x.shape).encode())
    digest.update(np.ascontiguousarray(x, "<f4").data)
    digest.update(np.ascontiguousarray(y, "<i4").data)
    return digest.hexdigest()
