"""What a benchmark can be told; no TensorFlow, so that it checks fast."""

from __future__ import annotations

import dataclasses

from pnil_tf.errors import UserError

_COUNTS = (
    *("images", "eot_samples", "attack_steps", "spsa_samples"),
    *("batch_size", "steps", "rounds"),
)


@dataclasses.dataclass(frozen=True)
class BenchmarkSettings:
    """Which benchmarks, how long, and where the result goes.

    Args:
        train: Whether to measure training steps.
        evaluate: Whether to measure the evaluation's attacks.
        sweep: Whether to try settings of `pgd_strong`.
        benchmark_run: Folder of the run whose classifier they attack.
        images: Test images for PGD; SPSA takes a tenth of them.
        eot_samples: Draws per gradient of PGD.
        attack_steps: Steps of PGD; SPSA takes a fifth of them.
        spsa_samples: Evaluations per step of SPSA, even.
        benchmark_model: `"small_cnn"` or `"resnet11"`.
        benchmark_width: Its width; `None` takes the model's default.
        batch_size: Images per training step.
        steps: Training steps per round.
        rounds: Rounds that count.
        output: JSON file to write, or `None`.
    """

    train: bool = False
    evaluate: bool = False
    sweep: bool = False
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
        for name in _COUNTS:
            value = getattr(self, name)
            if value < 1:
                raise UserError(f"--{name} must be at least 1. Received: {value!r}.")
        if not (self.train or self.evaluate or self.sweep):
            raise UserError(
                "There is nothing to measure. Received: none of --train, --evaluate, --sweep. "
                "Pass one."
            )
        if (self.evaluate or self.sweep) and not self.benchmark_run:
            raise UserError(
                "Attacks need a trained classifier. Received: no --benchmark_run. "
                "Pass the folder of a run that was trained with --pnil."
            )
        if self.spsa_samples % 2:
            raise UserError(
                f"SPSA evaluates pairs. Received: --spsa_samples={self.spsa_samples}. "
                f"Use {self.spsa_samples + 1}."
            )
