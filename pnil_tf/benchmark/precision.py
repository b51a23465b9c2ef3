"""The cost of a training step in float32 and in the mixed precision of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from pnil_tf.benchmark.one_batch import CLASSES, SHAPES, fitting, one_batch
from pnil_tf.benchmark.timing import alternate
from pnil_tf.models import build_model
from pnil_tf.training.model import AdversarialModel
from pnil_tf.training.precision import chosen_precision

_TRAININGS = ("none", "rfgsm")
_EPSILON = 8 / 255


class StepByStep(keras.layers.BatchNormalization):
    """Keras' own computation: only its own class is replaced by the fused one."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """As Keras."""
        return super().call(inputs, training=training, mask=mask)


def precision_benchmark(
    model: str, *, width: int | None, batch_size: int, steps: int, rounds: int
) -> list[dict[str, Any]]:
    """Times training steps on one batch in memory.

    Args:
        model: Name of the classifier.
        width: Its width, or `None` for its default.
        batch_size: Images per step.
        steps: Steps per round.
        rounds: Rounds that count.

    Returns:
        One row for each training, precision and way to normalize batches, where the classifier
        does: images `per_second`, and the `ratio` of its time to that of the same training in
        float32 as it is.
    """
    _, _, stream = one_batch(model, batch_size)
    mixed = chosen_precision("true").policy
    rows = []
    for training in _TRAININGS:
        contenders = {}
        for policy in ("float32", mixed):
            for fused in (True, False):
                network = _network(model, width, policy, fused)
                if network is None:
                    continue
                with _policy(policy):
                    trained = AdversarialModel(
                        network, training, _EPSILON, validation_attack="none"
                    )
                    contenders[policy, fused] = fitting(trained, stream, steps)
        names = {f"{policy} {fused}": run for (policy, fused), run in contenders.items()}
        timings = alternate(names, batch_size * steps, rounds, f"{model}, {training}")
        for (policy, fused), timing in zip(contenders, timings.values(), strict=True):
            row = {"model": model, "width": width, "training": training, "precision": policy}
            row["batch normalization"] = "ours" if fused else "Keras' own"
            rows.append(row | timing.to_json())
    return rows


def _network(model: str, width: int | None, policy: str, fused: bool) -> keras.Model | None:
    """The classifier; `None` for its second way to normalize batches where it does not."""
    with _policy(policy):
        network = build_model(model, SHAPES[model], CLASSES, width=width)
        if fused:
            return network
        stock = keras.layers.BatchNormalization
        if not any(isinstance(layer, stock) for layer in network.layers):
            return None
        return keras.models.clone_model(
            network,
            clone_function=lambda layer: (
                StepByStep.from_config(layer.get_config())
                if isinstance(layer, stock)
                else type(layer).from_config(layer.get_config())
            ),
        )


@contextmanager
def _policy(name: str) -> Iterator[None]:
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)
