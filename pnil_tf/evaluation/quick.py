"""The short evaluation at the end of a training: clean, and the paper's PGD with EOT."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from pnil_tf.attacks.registry import attack_settings, build_attack
from pnil_tf.batching import batches_of
from pnil_tf.contract.pixel_range import PixelRangeLike
from pnil_tf.data.types import Images
from pnil_tf.evaluation.judge import Judge
from pnil_tf.evaluation.room import fitted
from pnil_tf.evaluation.statistics import wilson
from pnil_tf.evaluation.target import as_target
from pnil_tf.progress import Progress

_JUDGE_DRAWS = 10
_MOST_AT_ONCE = 250
_LOOKED_AT = 100

# Attack, early checks of the attack, and the two judgements draw from seeds of their own.
_ATTACK, _CLEAN, _ADVERSARIAL = range(3)


def quick_evaluation(
    classifier: keras.Model,
    images: Images,
    attacked: int,
    epsilon: float,
    *,
    norm: str = "linf",
    eot_samples: int = 10,
    seed: int = 0,
    pixel_range: PixelRangeLike | None = None,
) -> dict[str, Any]:
    """Measures clean accuracy, and accuracy under PGD-50 (steps of 2 eps / 50) with EOT.

    It is a first look. The full evaluation attacks harder and asks whether the figure is real.

    Args:
        classifier: The classifier.
        images: Images it was neither trained on nor chosen by; clean accuracy is that of all.
        attacked: How many of them, from the first on, PGD attacks.
        epsilon: Radius of the attack, a share of the pixel range.
        norm: `"linf"` or `"l2"`.
        eot_samples: Draws per gradient; a deterministic classifier needs and gets one.
        seed: Seed of the attack and of the judgement.
        pixel_range: `(low, high)` of the pixels that the classifier takes; as for `as_target`.

    Returns:
        `clean_accuracy` and `pgd_accuracy`, each `{value, low, high, images, eot_samples,
        judge_draws}` (fractions; Wilson intervals at 95 %; mean over fresh draws of the noise),
        and the setting, to which the images that share a batch belong: fewer than 250 where they
        and the network are large.
    """
    attacked, y = min(attacked, len(images)), images.labels
    target = as_target(classifier, images.take(_LOOKED_AT).unit_images, pixel_range=pixel_range)
    batch = target.room.images(_MOST_AT_ONCE)
    draws, judge_draws = (eot_samples, _JUDGE_DRAWS) if target.stochastic else (1, 1)
    judge = Judge(target.predict, judge_draws)
    # The plain procedure of the paper: every step averages over all draws.
    settings = attack_settings("pgd", epsilon, norm=norm, draws=draws, faithful=True)
    settings = fitted(settings, target.room, batch)
    attack = build_attack(target.predict, settings, judge)

    def figure(shares: list[np.ndarray], eot: int) -> dict[str, Any]:
        share = np.concatenate(shares)
        return {
            **wilson(share).to_json(),
            "images": len(share),
            "eot_samples": eot,
            "judge_draws": judge_draws,
        }

    def pixels(b: slice) -> np.ndarray:  # memory may not hold more of them at once
        return images.rows(b).unit_images

    clean = [
        judge(pixels(b), y[b], _seed(seed, _CLEAN, b.start)) for b in batches_of(len(y), batch)
    ]
    progress = Progress("PGD-50", attacked)
    adversarial = []
    for b in batches_of(attacked, batch):

        def show(done: int, total: int, b: slice = b) -> None:
            progress.advance_to(b.start + done / total * (b.stop - b.start))

        x_adv = attack.run(pixels(b), y[b], _seed(seed, _ATTACK, b.start), show)
        adversarial.append(judge(x_adv, y[b], _seed(seed, _ADVERSARIAL, b.start)))
    progress.close("done")
    return {
        "clean_accuracy": figure(clean, 0),
        "pgd_accuracy": figure(adversarial, draws),
        "attack": "pgd",
        "epsilon": epsilon,
        "norm": norm,
        "pixel_range": target.describe()["pixel_range"],
        "steps": settings.steps,
        "step_size": settings.step_size,
        "eot_samples": draws,
        "batch_size": batch,
        "seed": seed,
    }


def _seed(seed: int, purpose: int, first: int) -> int:
    return (seed * 3 + purpose) * 2**32 + first
