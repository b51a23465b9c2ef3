"""The measurements behind the checks: further attacks on a part of the images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.attacks.apgd_t import TargetedSettings
from pnil_tf.attacks.attack import Kind
from pnil_tf.attacks.registry import attack_named, attack_settings
from pnil_tf.attacks.settings import ALL_DRAWS, AttackSettings
from pnil_tf.attacks.towards import MOST_PROMISING
from pnil_tf.contract.training_calls import called_to_train, predicts_by_itself
from pnil_tf.evaluation.features import spy
from pnil_tf.evaluation.gradient_probe import probe_gradients
from pnil_tf.evaluation.jump_probe import probe_jumps
from pnil_tf.evaluation.obfuscation.evidence import (
    CHECKS,
    EVALUATION,
    Evidence,
    NoiseCells,
    NothingPlanted,
    Planted,
)
from pnil_tf.evaluation.planted import MOST, planted_examples, searching
from pnil_tf.evaluation.room import fitted
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.evaluation.target import Predict, Target
from pnil_tf.evaluation.trial import Outcome, Trial

_EOT_DRAWS = (1, 2, 5, 10, 20, 50, 100)
_EPSILON_MULTIPLES = (0.25, 0.5, 1.0, 1.5, 2.0)
_ENOUGH_DRAWS = 10
_LARGEST = float(np.finfo(np.float32).max)


def configured(
    name: str, epsilon: float, settings: EvaluationSettings, target: Target, **overrides: Any
) -> AttackSettings:
    """Returns the settings of a named attack within an evaluation.

    Args:
        name: The attack.
        epsilon: Its radius.
        settings: The evaluation's settings.
        target: The classifier: a deterministic one needs no averaging.
        **overrides: As for `attack_settings`.

    Raises:
        UserError: If the attack does not allow them.
    """
    values: dict[str, Any] = {
        "norm": settings.norm,
        "faithful": settings.faithful,
        "stochastic": target.stochastic,
    }
    attack = attack_named(name)
    for field, option in attack.options.items():
        wanted = getattr(settings, option)
        if wanted is not None:
            values[field] = wanted
    if "step_size" in values:  # at other radii the checks keep its proportion
        values["step_size"] *= epsilon / settings.epsilon
    if attack.most_draws and "draws" in values:
        values["draws"] = min(values["draws"], attack.most_draws)
    if not target.stochastic:
        values["draws"] = 1
    if not target.noise_is_ours:
        values["antithetic"] = False  # mirrored noise that is not mirrored is drawn twice
    restarts = values.pop("restarts", None)
    found = attack_settings(name, epsilon, **{**values, **overrides})
    if restarts is not None and found.random_start:  # others would repeat one another
        found = dataclasses.replace(found, restarts=restarts)
    if isinstance(found, TargetedSettings):  # a class that came again would only cost time
        targets = min(found.targets, target.num_classes - 1)
        found = dataclasses.replace(found, targets=targets)
    found = fitted(found, target.room, settings.batch_size or target.room.images())
    if attack.kind is not Kind.GRADIENT_FREE:
        return found
    at_once = max(found.eot.chunk, min(found.max_evaluations_in_flight, target.room.points))
    return dataclasses.replace(found, max_evaluations_in_flight=at_once)


def gather(
    trial: Trial,
    clean: np.ndarray,
    attacks: dict[str, Outcome],
    epsilons: tuple[float, ...],
    unanswered: float = 0.0,
) -> Evidence:
    """Measures all that the checks look at.

    Args:
        trial: The target and its images.
        clean: `(n,)`, share of right draws on unperturbed images.
        attacks: What each attack of the evaluation left.
        epsilons: Radii of the curve; increasing, the evaluation's own among them.
        unanswered: Share of the draws on unperturbed images whose answers are not finite.
    """
    target, settings = trial.target, trial.settings
    evidence = Evidence(
        classes=target.num_classes,
        guessed=guessed(trial.y),
        epsilon=settings.epsilon,
        stochastic=target.stochastic,
        repeatable=target.repeatable,
        outputs=target.outputs,
        saturated=saturated(trial),
        clean=clean,
        unanswered=unanswered,
        called_to_train=called_to_train(target.classifier.model),
        predicts_by_itself=predicts_by_itself(target.classifier.model),
        attacks={name: outcome.share for name, outcome in attacks.items()},
        effort=spent(trial, attacks),
        halves={name: _halves(trial, outcome) for name, outcome in attacks.items()}
        if trial.judge.draws > 1
        else {},
        target_class=settings.target_class,
    )
    if not settings.checks:
        return evidence
    images = min(settings.check_images, len(trial.x))
    main = attacks.get("pgd_strong")
    at_epsilon = _at_epsilon(trial, main, images)
    plain = at_epsilon if main is None else _first(main, images)
    curve = {
        epsilon: at_epsilon
        if epsilon == settings.epsilon
        else trial.attack(f"check-epsilon-{epsilon:.6g}", _strong(trial, epsilon), images)
        for epsilon in epsilons
    }
    return dataclasses.replace(
        evidence,
        checked=images,
        epsilon_curve=tuple((epsilon, outcome.share) for epsilon, outcome in curve.items()),
        unbounded=trial.attack(
            "check-unbounded", _strong(trial, _whole_range(trial)), images
        ).share,
        eot_curve=_eot_curve(trial, images),
        unchanged=plain.share,
        stronger=_stronger(trial, plain, images),
        gradients=probe_gradients(trial, images),
        jumps=probe_jumps(trial, images),
        planted=_planted(trial, attacks, images),
        cells=_cells(trial, at_epsilon, images),
        loud=target.loud,
        sigma=mean_sigma(trial, images),
    )


def announced(
    trial: Trial, own: Mapping[str, AttackSettings], epsilons: tuple[float, ...]
) -> dict[str, tuple[AttackSettings, int]]:
    """Returns the attacks that `gather` will run, with the number of images of each.

    Args:
        trial: The target and its images.
        own: Settings of the evaluation's attacks, by name.
        epsilons: As for `gather`.
    """
    settings, target = trial.settings, trial.target
    main = own.get("pgd_strong")
    if not settings.checks:
        return {}
    at_epsilon = _strong(trial, settings.epsilon)
    attacks = {f"check-epsilon-{e:.6g}": _strong(trial, e) for e in epsilons}
    del attacks[f"check-epsilon-{settings.epsilon:.6g}"]
    if main != at_epsilon:
        attacks["check-epsilon"] = at_epsilon
    attacks["check-unbounded"] = _strong(trial, _whole_range(trial))
    attacks |= {f"check-draws-{draws}": attack for draws, attack in _eot_attacks(trial)}
    attacks |= _stronger_attacks(main or at_epsilon)
    copies = {
        "check-noise-free": target.silent,
        "check-noise-off": target.silent,
        "check-frozen": target.held,
        "check-known-draws": target.held,
    }
    attacks |= {
        name: _strong(trial, settings.epsilon, draws=1) for name, wanted in copies.items() if wanted
    }
    images = min(settings.check_images, len(trial.x))
    return {
        **{name: (attack, images) for name, attack in attacks.items()},
        **{name: (attack, min(images, MOST)) for name, attack in searching(trial, own).items()},
    }


def guessed(labels: np.ndarray) -> np.ndarray:
    """Whether the most frequent label is each image's, bool `(n,)`."""
    return labels == np.bincount(labels).argmax()


def spent(trial: Trial, attacks: dict[str, Outcome]) -> dict[str, dict[str, float]]:
    """Returns the effort of an evaluation, see `Evidence`."""
    settings = trial.settings
    one_class = settings.target_class is not None
    towards = 1 if one_class else min(MOST_PROMISING, trial.target.num_classes - 1)
    effort: dict[str, dict[str, float]] = {
        name: {
            **{
                field: value
                for field, value in dataclasses.asdict(outcome.settings).items()
                if field in ("steps", "samples")
            },
            "starts": outcome.settings.starts * (towards if outcome.settings.targeted else 1),
            **_reach(outcome.settings),
            "images": len(outcome.share),
        }
        for name, outcome in attacks.items()
    }
    effort[EVALUATION] = {
        "images": len(trial.x),
        "eot_samples": settings.eot_samples,
        "judge_draws": settings.judge_draws,
    }
    effort[CHECKS] = {
        "check_images": min(settings.check_images, len(trial.x)),
        "check_draws": settings.check_draws,
    }
    return effort


def _reach(settings: AttackSettings) -> dict[str, float]:
    """How far the steps lead together, in radii of the ball, of an attack that has such steps."""
    if "step_size" in attack_named(settings.name).ignores:
        return {}
    shrinking = settings.step_decay ** np.linspace(0.0, 1.0, settings.steps)
    return {"reach": round(float(settings.step_size * shrinking.sum() / settings.epsilon), 2)}


def curve_epsilons(settings: EvaluationSettings) -> tuple[float, ...]:
    """The radii of the curve: those asked for, or multiples of epsilon; always epsilon itself."""
    asked = settings.epsilons or tuple(m * settings.epsilon for m in _EPSILON_MULTIPLES)
    if settings.norm == "linf":
        asked = tuple(min(epsilon, 1.0) for epsilon in asked)
    return tuple(sorted({*asked, settings.epsilon}))


def saturated(trial: Trial) -> float:
    """The share of images (of at most 100) whose probabilities are rounded to 0 and 1.

    Logits cannot be, and count as 0.
    """
    if trial.target.outputs != "probabilities":
        return 0.0
    noise_free, images = trial.target.noise_free(), min(100, len(trial.x))
    logits = np.concatenate(
        [noise_free(tf.constant(trial.x[rows])).numpy() for _, rows in trial.batches(images)]
    )
    # A model that hands over only rounded probabilities shows the smallest number's logarithm.
    others = np.sort(logits, axis=1)[:, :-1]
    return float((others <= math.log(np.finfo(np.float32).tiny)).all(axis=1).mean())


def mean_sigma(trial: Trial, images: int) -> dict[str, float]:
    """The mean standard deviation that each PNIL layer's noise has on the first images.

    A layer whose input is not an image is read at the input it gets from the noise-free model.
    """
    found: dict[str, float] = {}
    for layer in trial.target.pnil_layers:
        if not layer.noise_at_inference:
            continue
        total = 0.0
        for _, rows in trial.batches(images):
            sigma = layer.sigma(_input_of(layer, trial.target, trial.x[rows]))
            total += float(tf.reduce_mean(sigma)) * (rows.stop - rows.start)
        # JSON knows no infinity.
        found[layer.name] = min(total / images, _LARGEST)
    return found


def _input_of(layer: Any, target: Target, images: np.ndarray) -> Any:
    with spy([layer]) as calls:
        target.noise_free()(tf.constant(images))
    return calls[0][1]


def _strong(trial: Trial, epsilon: float, **overrides: Any) -> AttackSettings:
    draws = min(trial.settings.eot_samples, trial.settings.check_draws)
    draws = draws if trial.target.stochastic else 1
    return configured(
        "pgd_strong",
        epsilon,
        trial.settings,
        trial.target,
        **{"draws": draws, "faithful": False, "schedule": ALL_DRAWS, **overrides},
    )


def _halves(trial: Trial, outcome: Outcome) -> np.ndarray:
    """The shares `(n, 2)` of right draws among the even and among the odd ones."""
    return np.stack([trial.share(outcome.votes[:, first::2]) for first in (0, 1)], axis=1)


def _planted(
    trial: Trial, attacks: Mapping[str, Outcome], images: int
) -> Planted | NothingPlanted | None:
    """What the evaluation's own attacks find; None where none of them follows gradients."""
    own = searching(trial, {name: outcome.settings for name, outcome in attacks.items()})
    return planted_examples(trial, own, images) if own else None


def _whole_range(trial: Trial) -> float:
    return 1.0 if trial.settings.norm == "linf" else math.sqrt(math.prod(trial.x.shape[1:]))


def _eot_curve(trial: Trial, images: int) -> tuple[tuple[int, np.ndarray], ...]:
    return tuple(
        (draws, trial.attack(f"check-draws-{draws}", attack, images).share)
        for draws, attack in _eot_attacks(trial)
    )


def _eot_attacks(trial: Trial) -> list[tuple[int, AttackSettings]]:
    if not trial.target.stochastic:
        return []
    most = max(trial.settings.eot_samples, _ENOUGH_DRAWS)
    # Every step averages over all draws: the curve is of draws, not of a schedule. It is of the
    # paper's PGD, whatever was asked of the attacks: not all of that suits it.
    plain = dataclasses.replace(trial.settings, step_size=None, restarts=None, loss=None)
    epsilon, target = trial.settings.epsilon, trial.target
    return [
        (draws, configured("pgd", epsilon, plain, target, draws=draws, faithful=True))
        for draws in sorted({*(d for d in _EOT_DRAWS if d <= most), trial.settings.eot_samples})
    ]


def _at_epsilon(trial: Trial, done: Outcome | None, images: int) -> Outcome:
    """The checks' own attack at the evaluation's epsilon, unless just that has been run."""
    attack = _strong(trial, trial.settings.epsilon)
    if done is None or done.settings != attack:
        return trial.attack("check-epsilon", attack, images)
    return _first(done, images)


def _first(done: Outcome, images: int) -> Outcome:
    return dataclasses.replace(
        done,
        adversarial=done.adversarial[:images],
        votes=done.votes[:images],
        share=done.share[:images],
    )


def _stronger(trial: Trial, plain: Outcome, images: int) -> dict[str, np.ndarray]:
    """What stronger versions of an attack, with as many draws, leave of the first images."""
    more_steps, larger_steps, again = (
        trial.attack(name, attack, images)
        for name, attack in _stronger_attacks(plain.settings).items()
    )
    better = (again.share < plain.share)[:, np.newaxis, np.newaxis, np.newaxis]
    best = np.where(better, again.adversarial, plain.adversarial)
    return {
        "more_steps": more_steps.share,
        "larger_steps": larger_steps.share,
        # Judged again: the draws that chose must not judge.
        "more_restarts": trial.share(trial.votes("check-twice-the-restarts", best)),
    }


def _stronger_attacks(plain: AttackSettings) -> dict[str, AttackSettings]:
    return {
        "check-more-steps": dataclasses.replace(plain, steps=2 * plain.steps),
        "check-larger-steps": dataclasses.replace(plain, step_size=2 * plain.step_size),
        # The same attack from other starts; together with the first, twice the restarts.
        "check-more-restarts": plain,
    }


def _cells(trial: Trial, with_noise: Outcome, images: int) -> NoiseCells | None:
    """Attacks on copies of the model.

    Two on each: one keeps what fools the model under fresh draws, the other, of an attacker who
    knows that the copy answers, what fools the copy.
    """
    target = trial.target
    if not (target.silent or target.held):
        return None
    plain = _strong(trial, trial.settings.epsilon, draws=1)
    found: dict[str, np.ndarray] = {"with_with": with_noise.share}
    if target.silent:
        noise_free = target.noise_free()
        off = _before(trial, noise_free)
        found |= {
            "clean_without": _right(off, trial.x[:images]),
            "with_without": _right(off, with_noise.adversarial),
            "without_with": trial.attack("check-noise-free", plain, images, noise_free).share,
            "without_without": off.attack("check-noise-off", plain, images).share,
        }
    if target.held:
        one = target.frozen()
        known = _before(trial, one)
        found |= {
            "clean_frozen": _right(known, trial.x[:images]),
            "frozen_with": trial.attack("check-frozen", plain, images, one).share,
            "frozen_frozen": known.attack("check-known-draws", plain, images).share,
        }
    return NoiseCells(**found)


def _before(trial: Trial, copy: Predict) -> Trial:
    """The same images before a copy of the model that is without randomness."""
    target = dataclasses.replace(trial.target, predict=copy, stochastic=False)
    return Trial(target, trial.x, trial.y, trial.settings, trial.store, trial.stages)


def _right(trial: Trial, images: np.ndarray) -> np.ndarray:
    """Which of the first images a model without randomness gets right, `(n,)`."""
    votes = [
        trial.judge.votes(images[rows], rng.make_seed(0)) for _, rows in trial.batches(len(images))
    ]
    return trial.share(np.concatenate(votes))
