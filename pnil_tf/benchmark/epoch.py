"""How much of a training epoch is the step: the pipeline and the callbacks beside it."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pnil_tf.benchmark.one_batch import compiled
from pnil_tf.benchmark.timing import alternate
from pnil_tf.data import ImageSet, training_stream
from pnil_tf.layers import PNILLayer
from pnil_tf.models import build_model
from pnil_tf.progress import Progress
from pnil_tf.runs.settings import RunSettings
from pnil_tf.training.callbacks import HistoryFile, SaveState, ShowProgress, StopOnInvalidLoss
from pnil_tf.training.checkpoints import TrainingCheckpoints
from pnil_tf.training.model import AdversarialModel

_SHAPE, _IMAGES = (28, 28, 1), 60_000  # as MNIST


def epoch_benchmark(*, width: int | None, batch_size: int, rounds: int) -> list[dict[str, Any]]:
    """Times whole epochs of NFGSM with PNIL on as many images as MNIST has, without validation.

    Args:
        width: Width of the small CNN, or `None` for its default.
        batch_size: Images per step.
        rounds: Rounds that count.

    Returns:
        One row for the steps on one batch in memory, again and again; one for an epoch as a run
        has it, shuffled, with checkpoint, history and progress; one for the data alone:
        images `per_second`, and `ratio` of the time to that of the steps.
    """
    generator = np.random.default_rng(0)
    images = ImageSet(
        generator.integers(0, 256, (_IMAGES, *_SHAPE)).astype(np.uint8),
        generator.integers(0, 10, _IMAGES).astype(np.int32),
    )
    steps = _IMAGES // batch_size
    model = AdversarialModel(
        build_model("small_cnn", _SHAPE, 10, width=width, pnil=PNILLayer(initial_sigma=0.1)),
        "nfgsm",
        0.1,
        validation_attack="none",
    )
    compiled(model)
    stream = training_stream(images, batch_size, 0)
    one_batch = stream.take(1).cache().repeat()

    with tempfile.TemporaryDirectory() as folder:
        history = HistoryFile(Path(folder) / "history.csv")
        callbacks = [
            StopOnInvalidLoss(),
            history,
            SaveState(
                TrainingCheckpoints(Path(folder) / "last", model),
                {"history": history},
                [],
                steps,
                RunSettings().checkpoint_steps,
            ),
            ShowProgress(Progress("epoch", steps, "step", stream=io.StringIO()), 1),
        ]

        def fit(data: Any, callbacks: list[Any]) -> None:
            model.fit(data, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=callbacks)

        def data() -> None:
            for _ in stream.take(steps):
                pass

        contenders = {
            "steps alone": lambda: fit(one_batch, []),
            "an epoch of a run": lambda: fit(stream, callbacks),
            "data alone": data,
        }
        timings = alternate(contenders, steps * batch_size, rounds, "epoch")
    return [{"what": name, **timing.to_json()} for name, timing in timings.items()]
