"""What a benchmark can be told; no TensorFlow, so that it checks fast."""

from __future__ import annotations

import dataclasses

from pnil_tf.errors import UserError, argument
from pnil_tf.validation import check_types, require_count
from pnil_tf.vocabulary import REAL_SIZE_MODEL

WITHOUT_RUN = ("train", "precision", "epoch", "startup", "real_size", "peers")
ATTACKS = ("evaluate", "eot", "antithetic", "sweep", "certify")
WITH_RUN = (*ATTACKS, "memory")
"""The benchmarks, by what they need; those of `WITH_RUN` need a trained classifier."""

_COUNTS = (
    *("images", "eot_samples", "attack_steps", "spsa_samples"),
    *("batch_size", "steps", "rounds"),
)


@dataclasses.dataclass(frozen=True)
class BenchmarkSettings:
    """Which benchmarks, how long, and where the result goes.

    Args:
        train: Whether to measure training steps.
        precision: Whether to compare training steps in float32 and in mixed precision.
        epoch: Whether to measure whole epochs, and the data pipeline alone.
        startup: Whether to measure imports, `--help` and the first step.
        real_size: Whether to measure training steps on files of 224 pixels.
        peers: Whether to set a training step beside PyTorch's, and, where a run is named, PGD on
            its classifier beside ART's and Foolbox'.
        evaluate: Whether to measure the evaluation's attacks.
        eot: Whether to measure PGD over draws, batch and chunk sizes.
        antithetic: Whether to compare antithetic with independent draws.
        sweep: Whether to try settings of `pgd_strong`.
        certify: Whether to measure a certificate's draws, and their noise alone.
        memory: Whether to measure the peak memory of evaluations.
        benchmark_run: Folder of the run whose classifier is attacked.
        images: Test images for PGD; SPSA takes a tenth of them.
        eot_samples: Draws per gradient of PGD.
        attack_steps: Steps of PGD; SPSA takes a fifth of them.
        spsa_samples: Evaluations per step of SPSA, even.
        benchmark_model: `"small_cnn"` or `"resnet11"`; for `peers` also `REAL_SIZE_MODEL`.
        benchmark_width: Its width; `None` takes the model's default.
        batch_size: Images per training step.
        steps: Training steps per round.
        rounds: Rounds that count.
        output: JSON file to write, or `None`.
    """

    train: bool = False
    precision: bool = False
    epoch: bool = False
    startup: bool = False
    real_size: bool = False
    peers: bool = False
    evaluate: bool = False
    eot: bool = False
    antithetic: bool = False
    sweep: bool = False
    certify: bool = False
    memory: bool = False
    benchmark_run: str | None = None
    images: int = 100
    eot_samples: int = 100
    attack_steps: int = 50
    spsa_samples: int = 2048
    benchmark_model: str = "small_cnn"
    benchmark_width: int | None = None
    batch_size: int = 100
    steps: int = 50
    rounds: int = 7
    output: str | None = None

    def __post_init__(self) -> None:
        check_types(self)
        counts = [(name, getattr(self, name)) for name in _COUNTS]
        if self.benchmark_width is not None:
            counts.append(("benchmark_width", self.benchmark_width))
        for name, value in counts:
            require_count(name, value)
        names = (*WITHOUT_RUN, *WITH_RUN)
        if not any(getattr(self, name) for name in names):
            raise UserError(
                f"There is nothing to measure. Pass one of {', '.join(map(argument, names))}."
            )
        if any(getattr(self, name) for name in WITH_RUN) and not self.benchmark_run:
            raise UserError(
                "Attacks need a trained classifier. Pass the folder of a run that was trained with "
                f"{argument('pnil')} as {argument('benchmark_run')}."
            )
        if self.benchmark_model == REAL_SIZE_MODEL:
            self._refuse_real_size()
        if self.spsa_samples % 2:
            raise UserError(
                f"SPSA evaluates pairs. Received: {argument('spsa_samples', self.spsa_samples)}. "
                f"Use {self.spsa_samples + 1}."
            )

    def _refuse_real_size(self) -> None:
        """What cannot be measured on images of 224 pixels by these flags."""
        received = argument("benchmark_model", self.benchmark_model)
        if self.train or self.precision:
            raise UserError(
                f"{argument('train')} and {argument('precision')} measure smaller images. "
                f"Received: {received}. {argument('real_size')} measures its training steps."
            )
        if self.benchmark_width is not None:
            raise UserError(
                f"This network has one width. Received: {received} and "
                f"{argument('benchmark_width', self.benchmark_width)}. Leave the width out."
            )
