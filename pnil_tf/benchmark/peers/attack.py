"""PGD with EOT beside the same in PyTorch: written plainly, ART's and Foolbox'."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import torch
from art.attacks.evasion import ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from foolbox import PyTorchModel
from foolbox.attacks import LinfProjectedGradientDescentAttack
from foolbox.criteria import Misclassification
from torch import nn
from torch.nn import functional

from pnil_tf.attacks.eot import Predict
from pnil_tf.benchmark.evaluate import attacked_in_turn, our_pgd
from pnil_tf.benchmark.peers.torch_twin import PARITY, TorchTwin, images
from pnil_tf.errors import UserError
from pnil_tf.evaluation.judge import Judge
from pnil_tf.evaluation.trial import AIMING_DRAWS


def attack_peers(
    model: keras.Model,
    predict: Predict,
    x: np.ndarray,
    y: np.ndarray,
    epsilon: float,
    *,
    steps: int,
    draws: int,
    rounds: int,
) -> list[dict[str, Any]]:
    """Times PGD in l_inf whose gradients are averaged over draws of the model's noise.

    All take steps of 2 epsilon / steps from a uniform start. The peers get the gradients of all
    draws of an image at once, and of no weights.

    Args:
        model: The classifier, with a `PNILLayer`, for pixels in [0, 1].
        predict: Its answers, images to logits.
        x: float32 images `(n, height, width, channels)`.
        y: int labels `(n,)`.
        epsilon: Radius of the ball.
        steps: PGD steps.
        draws: Draws per gradient.
        rounds: Rounds that count; each has random starts of its own.

    Returns:
        One row for each way: images `per_second`, `ratio` of its time to that of ours where we do
        as they do, and the `accuracy` that it left, judged by fresh draws.

    Raises:
        UserError: If the classifier has no twin in PyTorch.
    """
    try:
        twin = TorchTwin(model)
    except ValueError as error:
        raise UserError(f"The peers attack the same network in PyTorch. {error}") from error
    difference = twin.differs_by(x[:50])
    if difference > PARITY:
        raise UserError(
            "The peers attack the same network in PyTorch, and its logits differ by "
            f"{difference:.3g}. Name a run of another classifier."
        )
    averaged = _Averaged(twin, draws)
    judge = Judge(predict, AIMING_DRAWS)
    ways = our_pgd(predict, judge, x, y, epsilon, steps, draws)
    length = 2.0 * epsilon / steps
    ways["PyTorch"] = _plain(averaged, x, y, epsilon, length, steps)
    ways["ART"] = _art(averaged, x, y, epsilon, length, steps)
    ways["Foolbox"] = _foolbox(averaged, x, y, epsilon, length, steps)
    timings, left = attacked_in_turn(ways, {}, judge, x, y, epsilon, rounds, "PGD of the peers")
    return [
        {"attack": "pgd", "way": way, **timings[way].to_json(), "accuracy": left[way]}
        for way in ways
    ]


class _Averaged(nn.Module):
    """Log-probabilities, averaged over draws: their negative is the mean of the losses."""

    def __init__(self, twin: TorchTwin, draws: int) -> None:
        super().__init__()
        self.twin, self.draws = twin, draws
        self.classes = twin.model[0].output_shape[-1]
        self.eval()

    def forward(self, x: Any) -> Any:
        stacked = x.repeat(self.draws, *(1 for _ in x.shape[1:]))
        logits = self.twin(stacked)
        return logits.log_softmax(1).reshape(self.draws, len(x), -1).mean(0)


def _plain(
    averaged: _Averaged, x: np.ndarray, y: np.ndarray, epsilon: float, length: float, steps: int
) -> Callable[[int], np.ndarray]:
    """The attack as it is written in PyTorch, without the gradients that it does not need."""
    pixels, labels = images(x), torch.tensor(y).long()
    low, high = (pixels - epsilon).clamp(min=0.0), (pixels + epsilon).clamp(max=1.0)

    def run(seed: int) -> np.ndarray:
        torch.manual_seed(seed)
        point = (pixels + torch.empty_like(pixels).uniform_(-epsilon, epsilon)).clamp(low, high)
        for _ in range(steps):
            point.requires_grad_()
            loss = functional.nll_loss(averaged(point), labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, point)
            point = (point.detach() + length * gradient.sign()).clamp(low, high)
        return np.moveaxis(point.numpy(), 1, -1)

    return run


def _art(
    averaged: _Averaged, x: np.ndarray, y: np.ndarray, epsilon: float, length: float, steps: int
) -> Callable[[int], np.ndarray]:
    pixels = images(x).numpy()
    classifier = PyTorchClassifier(
        averaged,
        loss=nn.NLLLoss(),
        input_shape=pixels.shape[1:],
        nb_classes=averaged.classes,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    attack = ProjectedGradientDescent(
        classifier,
        norm=np.inf,
        eps=epsilon,
        eps_step=length,
        max_iter=steps,
        num_random_init=1,
        batch_size=len(x),
        verbose=False,
    )

    def run(seed: int) -> np.ndarray:
        np.random.seed(seed)  # noqa: NPY002 (ART's start follows it)
        torch.manual_seed(seed)
        return np.moveaxis(attack.generate(pixels, y), 1, -1)

    return run


class _FoolboxPGD(LinfProjectedGradientDescentAttack):
    """Foolbox' PGD on a model that answers log-probabilities."""

    def get_loss_fn(self, model: Any, labels: Any) -> Callable[[Any], Any]:
        """Returns the sum of the losses."""
        rows = range(len(labels))
        return lambda inputs: -model(inputs)[rows, labels].sum()


def _foolbox(
    averaged: _Averaged, x: np.ndarray, y: np.ndarray, epsilon: float, length: float, steps: int
) -> Callable[[int], np.ndarray]:
    model = PyTorchModel(averaged, bounds=(0, 1), device="cpu")
    attack = _FoolboxPGD(abs_stepsize=length, steps=steps, random_start=True)
    pixels, labels = images(x), torch.tensor(y).long()

    def run(seed: int) -> np.ndarray:
        torch.manual_seed(seed)
        found = attack.run(model, pixels, Misclassification(labels), epsilon=epsilon)
        return np.moveaxis(found.numpy(), 1, -1)

    return run
