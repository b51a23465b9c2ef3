"""What it costs to begin: imports, `--help`, and the first training step."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pnil_tf.benchmark.timing import alternate
from pnil_tf.interpreter import run_code

_SCRIPTS = Path(__file__).resolve().parents[2] / "bin"
_IN_PYTHON = {
    "import tensorflow": "import tensorflow, keras",
    "import tensorflow and pnil_tf": "import tensorflow, keras; from pnil_tf import *",
    "the same in a command": "from pnil_tf.logs import import_tensorflow; import_tensorflow(); "
    "import keras; from pnil_tf import *",
    "the first training step": "from pnil_tf.benchmark import startup; startup.first_step()",
}


def startup_benchmark(rounds: int) -> list[dict[str, Any]]:
    """Times new processes, each kind in turn.

    Args:
        rounds: Rounds that count.

    Returns:
        One row for each: `what`, and its `seconds`, median and range, process start included.
    """

    def contender(*arguments: str) -> Callable[[], Any]:
        return lambda: subprocess.run(
            arguments, check=True, stdin=subprocess.DEVNULL, capture_output=True
        )

    contenders = {name: contender(*run_code(code)) for name, code in _IN_PYTHON.items()}
    for script in sorted(_SCRIPTS.glob("*.py")):
        contenders[f"bin/{script.name} --help"] = contender(sys.executable, str(script), "--help")
    timings = alternate(contenders, 1, rounds, "start-up")
    return [
        {
            "what": name,
            "seconds": statistics.median(timing.seconds),
            "lowest": min(timing.seconds),
            "highest": max(timing.seconds),
        }
        for name, timing in timings.items()
    ]


def first_step() -> None:
    """Builds a small CNN with PNIL and takes one NFGSM step: what a new training waits for."""
    import keras
    import numpy as np

    from pnil_tf.layers import PNILLayer
    from pnil_tf.models import build_model
    from pnil_tf.training.model import AdversarialModel

    model = AdversarialModel(
        build_model("small_cnn", (28, 28, 1), 10, pnil=PNILLayer()), "nfgsm", 0.1
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.zeros((100, 28, 28, 1), np.float32), np.zeros(100, np.int32), verbose=0)
