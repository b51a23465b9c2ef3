"""Which attacks an evaluation runs, with which settings, and which go on from which.

A suite is a cascade: each of its attacks sees the images that still stand, so that the dear ones
see few.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from pnil_tf.attacks.attack import Kind
from pnil_tf.attacks.registry import attack_named, attacks_of_kind
from pnil_tf.attacks.settings import AttackSettings
from pnil_tf.attacks.towards import MOST_PROMISING
from pnil_tf.errors import UserError, argument
from pnil_tf.evaluation.effort import settings_of_effort
from pnil_tf.evaluation.probes import configured
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.evaluation.target import Predict, Target
from pnil_tf.vocabulary import ATTACKS, SUITES, TRANSFER

PUBLISHED = "autoattack"
"""The suite whose figures are set beside those of papers."""

_TO_BEAT = ("fgsm", "noise")
"""What attacks along gradients have to beat: the checks compare with them."""


@dataclasses.dataclass(frozen=True)
class Planned:
    """An attack of an evaluation.

    Args:
        settings: Its settings.
        images: How many of the images it attacks, the first ones.
        after: The attack whose survivors it attacks; None for all images.
        predict: The classifier that it sees, if it is not the one under test.
        if_much_by: The attack that must have taken much of what was left to it (`further.MUCH`)
            for this one to run; None if it runs in any case.
    """

    settings: AttackSettings
    images: int
    after: str | None = None
    predict: Predict | None = None
    if_much_by: str | None = None


@dataclasses.dataclass(frozen=True)
class SuiteStage:
    """A stage of a suite.

    Args:
        attack: What it runs.
        own: What the attack has of its own there.
        if_much_by: As for `Planned`.
    """

    attack: str
    own: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    if_much_by: str | None = None


def cascade(suite: str, target: Target, norm: str = "linf") -> dict[str, SuiteStage]:
    """Returns the stages of a suite by name, in their order.

    `auto` is made for the lowest accuracy at the least cost. Long steps with two losses find
    nearly all that gradients find, and the rest falls to few targets chosen by their gradients
    (Melamed et al. 2024). In l_2 FAB follows, which looks for the nearest boundary: a network
    hardened in l_inf is flat around its images, and a search that only climbs finds no slope there.
    Square, which is left for what hides from gradients, gives up images that it gets no nearer to.
    Where it takes much, both have missed more: then either begins once more from another start.
    (On the images that stood in the worst case of docs/results.md other starts towards three
    classes found more than six other classes, in half of the time.)

    `autoattack` is the ensemble of Croce and Hein 2020 as published ('standard'): APGD on the
    cross-entropy, targeted APGD and targeted FAB on nine classes, Square with 5,000 queries. For
    stochastic models it is their 'rand' (APGD on two losses with 20 draws), and beyond it the
    targets and Square, too.

    Args:
        suite: A name out of `SUITES`.
        target: The classifier.
        norm: Norm of the radius.
    """
    if suite == "auto":
        nearest = {"fab_t": {"order": "gradients"}} if norm == "l2" else {}
        few = {"targets": MOST_PROMISING, "order": "gradients"}
        patient = {"patience": 4.0}
        return {
            **_each({"pgd_strong": {}, "apgd_t": few, **nearest, "square": patient}),
            "apgd_t_again": SuiteStage("apgd_t", few, if_much_by="square"),
            "square_again": SuiteStage("square", patient, if_much_by="square"),
        }
    if target.stochastic:
        return _each({"apgd_ce": {}, "apgd_dlr": {}, "apgd_t": {}, "square": {}})
    return _each({"apgd_ce": {}, "apgd_t": {}, "fab_t": {}, "square": {}})


def _each(attacks: Mapping[str, Mapping[str, Any]]) -> dict[str, SuiteStage]:
    """Stages that run one attack each, called by its name."""
    return {name: SuiteStage(name, own) for name, own in attacks.items()}


def planned(
    settings: EvaluationSettings, target: Target, source: Target | None = None
) -> dict[str, Planned]:
    """Returns the attacks that an evaluation runs, in their order.

    Where there are checks, and beside `auto`, run the attacks that any other must beat, too.

    Args:
        settings: The evaluation's settings.
        target: The classifier.
        source: Another classifier of the same images and classes, through which `TRANSFER` looks
            for adversarial images.

    Raises:
        UserError: If an attack does not allow what was asked for, or belongs to a suite and is
            named besides, no attack would follow what was asked for, restarts are asked for and
            none begins at random, the class that attacks are to go towards does not exist, or the
            published ensemble is asked for with settings that make another one of it.
    """
    plan: dict[str, Planned] = {}
    sent = settings.targeted or settings.target_class is not None
    towards = {"targeted": True} if sent else {}
    if PUBLISHED in settings.attacks:
        _check_published(settings, target)
    if settings.target_class is not None and settings.target_class >= target.num_classes:
        raise UserError(
            f"The model has {target.num_classes} classes, numbered from 0. Received: "
            f"{argument('target_class', settings.target_class)}."
        )

    def add(name: str, stage: SuiteStage, after: str | None = None) -> None:
        if name in plan:
            raise UserError(
                f"The attack {name!r} is part of a suite that is run, too. Received: attacks "
                f"{', '.join(settings.attacks)}. Name one of them."
            )
        attack, own = attack_named(stage.attack), dict(stage.own)
        chooses = not attack.towards and attack.kind is not Kind.SANITY
        if settings.target_class is not None and chooses:
            raise UserError(
                f"The attack {name!r} chooses its classes itself, so it cannot follow "
                f"{argument('target_class', settings.target_class)}. Leave one of them out."
            )
        if attack.towards:
            own |= towards
        chosen = configured(stage.attack, settings.epsilon, settings, target, **own)
        images = getattr(settings, attack.images)
        plan[name] = Planned(chosen, images, after, if_much_by=stage.if_much_by)

    for name in settings.attacks:
        if name not in SUITES:
            add(name, SuiteStage(name))
            continue
        after = None
        for part, stage in cascade(name, target, settings.norm).items():
            if settings.target_class is not None and not attack_named(stage.attack).towards:
                continue  # it would choose other classes
            add(part, stage, after)
            after = part
    along_gradients = any(
        attack_named(attack.settings.name).kind is Kind.GRADIENT for attack in plan.values()
    )
    if "auto" in settings.attacks or (settings.checks and along_gradients):
        for name in _TO_BEAT:
            if name not in plan:
                add(name, SuiteStage(name))
    _check_restarts(settings, plan)
    if source is not None:
        through = configured("pgd_strong", settings.epsilon, settings, source, **towards)
        plan[TRANSFER] = Planned(through, settings.images, predict=source.predict)
    _check_options(settings, plan)
    return plan


def identity_of(plan: Mapping[str, Planned]) -> dict[str, dict[str, Any]]:
    """Returns what results depend on of the attacks' settings, by their names, as JSON types."""
    identity = {}
    for name, attack in plan.items():
        identity[name] = dataclasses.asdict(attack.settings)
        del identity[name]["max_evaluations_in_flight"], identity[name]["eot"]["chunk"]
    as_read: dict[str, dict[str, Any]] = json.loads(json.dumps(identity))
    return as_read


def gradients_alone(settings: EvaluationSettings) -> bool:
    """Whether attacks along gradients were asked for, and no other search."""
    asked, following = set(settings.attacks), set(attacks_of_kind(Kind.GRADIENT))
    return bool(asked & following) and asked <= following | set(attacks_of_kind(Kind.SANITY))


def _check_options(settings: EvaluationSettings, plan: Mapping[str, Planned]) -> None:
    """Refuses what was asked for and no attack would follow."""
    by_effort = settings_of_effort(settings.effort)
    for option in ("steps", "step_size", "restarts", "loss"):
        asked = getattr(settings, option)
        if asked is None or asked == by_effort.get(option):
            continue
        followers = [name for name in ATTACKS if option in attack_named(name).options.values()]
        if not any(attack.settings.name in followers for attack in plan.values()):
            raise UserError(
                f"{argument(option, asked)} is for {' and '.join(followers)}, and none of them is "
                f"run. Received: attacks {', '.join(plan)}. Leave it out, or name one of them."
            )


def _check_restarts(settings: EvaluationSettings, plan: Mapping[str, Planned]) -> None:
    """Refuses random starts where only such attacks are to take them as have none."""
    followers = [
        attack.settings
        for attack in plan.values()
        if "restarts" in attack_named(attack.settings.name).options
    ]
    if settings.restarts and followers and not any(each.random_start for each in followers):
        dataclasses.replace(followers[0], restarts=settings.restarts)  # says why, if it is refused


def _check_published(settings: EvaluationSettings, target: Target) -> None:
    """Refuses to give the name of the published ensemble to something else."""
    draws = attack_named("apgd_ce").most_draws or 1
    changes = {
        argument("targeted", True): settings.targeted,
        argument("target_class", settings.target_class): settings.target_class is not None,
        argument("eot_samples", settings.eot_samples): (
            target.stochastic and settings.eot_samples < draws
        ),
        argument("average", settings.average): target.stochastic and settings.average != "loss",
    }
    received = [change for change, made in changes.items() if made]
    if received:
        raise UserError(
            f"{PUBLISHED!r} is the name of a published ensemble: its attacks choose their classes "
            f"themselves, and for a model with noise average the loss over {draws} draws. "
            f"Received: {', '.join(received)}. Leave that out, or run 'auto' instead."
        )
