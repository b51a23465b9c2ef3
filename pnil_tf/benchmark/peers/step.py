"""A training step of RFGSM beside the same step written plainly in PyTorch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import torch
from torch.nn import functional

from pnil_tf.attacks.one_step import StepAttack, step_attack
from pnil_tf.benchmark.one_batch import (
    CLASSES,
    LEARNING_RATE,
    SHAPES,
    compiled,
    fitting,
    one_batch,
)
from pnil_tf.benchmark.peers.torch_twin import TorchTwin, images
from pnil_tf.benchmark.timing import alternate
from pnil_tf.copying import copied
from pnil_tf.errors import RunFailedError
from pnil_tf.layers import PNILLayer
from pnil_tf.models import build_model
from pnil_tf.training.model import AdversarialModel
from pnil_tf.vocabulary import REAL_SIZE_MODEL

logger = logging.getLogger(__name__)

_ATTACK = step_attack("rfgsm", 8 / 255)
_OURS, _TORCH, _COMPILED = "pnil_tf", "PyTorch", "PyTorch, compiled"
_NO_NOISE = -60.0  # its log-variance
_AGREE = (1e-3, 2e-2)
"""The first and the second loss may differ by these shares. A gradient near 0 may have either
sign, and Adam's first step, which lies between the two, is a sign of every weight's."""


def step_peers(
    model: str, *, width: int | None, batch_size: int, steps: int, rounds: int
) -> list[dict[str, Any]]:
    """Times RFGSM's training steps by Adam on one batch in memory, from equal weights.

    Before that both take two steps without random numbers (MobileNetV2 of a hundredth of the
    radius), from weights and a batch that are the same, and must find the same losses.

    Args:
        model: Name of the classifier.
        width: Its width, or `None` for its default.
        batch_size: Images per step.
        steps: Steps per round.
        rounds: Rounds that count.

    Returns:
        One row for each way, with and without PNIL: images `per_second`, `ratio` of its time to
        ours, and the `first_losses`, without random numbers.

    Raises:
        RunFailedError: If the first losses differ.
    """
    x, y, stream = one_batch(model, batch_size)
    rows = []
    for pnil in (False, True):
        layer = PNILLayer() if pnil else None
        network = build_model(model, SHAPES[model], CLASSES, width=width, pnil=layer)
        silent = _silenced(network)
        attack = _without_start(model)
        losses = {
            _OURS: _our_losses(silent, x, y, attack),
            _TORCH: _torch_losses(silent, x, y, attack),
        }
        apart = np.abs(np.subtract(losses[_OURS], losses[_TORCH]))
        if not np.all(apart <= np.multiply(_AGREE, losses[_OURS])):  # nor where one is NaN
            raise RunFailedError(
                f"The steps of {model} are not the same computation: {losses} are their first "
                "losses. Report this."
            )
        ours = AdversarialModel(copied(network), _ATTACK, validation_attack="none")
        ways = {_OURS: fitting(ours, stream, steps)}
        ways |= _torch_ways(network, x, y, steps)
        timings = alternate(ways, batch_size * steps, rounds, f"{model}{' with PNIL' * pnil}")
        for way, timing in timings.items():
            row = {"model": model, "width": width, "pnil": pnil, "step": way, **timing.to_json()}
            if way in losses:
                row["first_losses"] = ", ".join(f"{loss:.4f}" for loss in losses[way])
            rows.append(row)
    return rows


def _without_start(model: str) -> StepAttack:
    """The attack without random numbers; a very deep network would magnify rounding errors."""
    share = 0.01 if model == REAL_SIZE_MODEL else 1.0
    return StepAttack(share * _ATTACK.epsilon, share * _ATTACK.step_size)


def _our_losses(
    network: keras.Model, x: np.ndarray, y: np.ndarray, attack: StepAttack
) -> list[float]:
    model = compiled(AdversarialModel(copied(network), attack, validation_attack="none"))
    losses = []
    for _ in range(2):
        losses.append(float(model.train_on_batch(x, y, return_dict=True)["loss"]))
        model.reset_metrics()
    return losses


def _torch_losses(
    network: keras.Model, x: np.ndarray, y: np.ndarray, attack: StepAttack
) -> list[float]:
    step = _torch_step(TorchTwin(network), x, y, attack)
    return [float(step()) for _ in range(2)]


def _silenced(network: keras.Model) -> keras.Model:
    """A copy whose noise is drawn, and too small to matter."""
    silent = copied(network)
    for layer in silent.layers:
        if isinstance(layer, PNILLayer):
            layer.bias.assign(keras.ops.full_like(layer.bias, _NO_NOISE))
    return silent


def _torch_ways(
    network: keras.Model, x: np.ndarray, y: np.ndarray, steps: int
) -> dict[str, Callable[[], Any]]:
    def repeated(step: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> None:
            for _ in range(steps):
                loss = step()
            loss.item()

        return run

    ways = {_TORCH: repeated(_torch_step(TorchTwin(network), x, y))}
    faster = _torch_step(TorchTwin(network), x, y, compile_it=True)
    try:
        faster()
    except Exception as error:  # it needs a C++ compiler, and whatever else
        logger.warning("torch.compile does not work here and is left out: %.200s", error)
        return ways
    return ways | {_COMPILED: repeated(faster)}


def _torch_step(
    twin: TorchTwin,
    x: np.ndarray,
    y: np.ndarray,
    attack: StepAttack = _ATTACK,
    compile_it: bool = False,
) -> Callable[[], Any]:
    """The step as it is written in PyTorch, without the gradients that crafting does not need."""
    twin.train().requires_grad_()
    network = torch.compile(twin) if compile_it else twin
    optimizer = torch.optim.Adam(
        twin.parameters(), LEARNING_RATE, eps=keras.optimizers.Adam().epsilon
    )
    pixels, labels = images(x), torch.tensor(y).long()
    radius, length, start = attack.epsilon, attack.step_size, attack.start_size

    def step() -> Any:
        delta = torch.empty_like(pixels).uniform_(-start, start).requires_grad_()
        loss = functional.cross_entropy(network(pixels + delta), labels)
        (gradient,) = torch.autograd.grad(loss, delta)
        delta = (delta.detach() + length * gradient.sign()).clamp(-radius, radius)
        adversarial = (pixels + delta).clamp(0.0, 1.0)
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(adversarial), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step
