"""What a benchmark can be told; no TensorFlow, so that it checks fast."""

from __future__ import annotations

import dataclasses

from pnil_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class BenchmarkSettings:
    """Which benchmarks, how long, and where the result goes.

    Args:
        train: Whether to measure training steps.
        benchmark_model: `"small_cnn"` or `"resnet11"`.
        benchmark_width: Its width; `None` takes the model's default.
        batch_size: Images per training step.
        steps: Training steps per round.
        rounds: Rounds that count.
        output: JSON file to write, or `None`.
    """

    train: bool = False
    benchmark_model: str = "small_cnn"
    benchmark_width: int | None = None
    batch_size: int = 100
    steps: int = 50
    rounds: int = 7
    output: str | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "steps", "rounds"):
            value = getattr(self, name)
            if value < 1:
                raise UserError(f"--{name} must be at least 1. Received: {value!r}.")
        if not self.train:
            raise UserError("There is nothing to measure. Received: no --train. Pass it.")
