"""Writes down what the default evaluation says of every planted fake, and of honest models.

`python tests/evaluation/record_planted.py docs/results/planted_verdicts.json` goes on where it
stopped. About half an hour on one core. The lines that checks draw between honest models and fakes
rest on its values. `test_planted.py` holds the verdicts to what they must be.
"""

from __future__ import annotations

import datetime
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from test_planted import ATTACKS, FAKES, FRONTS, SETTINGS, UNSEEDED, collapsed
from zoo import (
    SHAPE,
    Decoy,
    RandomShift,
    StraightThrough,
    behind,
    digits,
    network,
    noisy,
    trained,
)

from pnil_tf.evaluation.runner import evaluate
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.files import write_json
from pnil_tf.layers import PNILLayer
from pnil_tf.version import versions

AUTO = {"attacks": ("auto",)}
FEW = {**AUTO, "images": 60}
"""Enough to find a fake out."""
FEW_WITHOUT_SQUARE = {"attacks": ATTACKS, "images": 60}
"""Square takes most of the time behind noise, and these are found out without it."""
TWICE_AS_FAR = {"epsilon": 0.3, "epsilons": (0.15, 0.3)}
TOKEN = {
    "epsilon": 0.1,
    "attacks": ATTACKS,
    "steps": 1,
    "restarts": 1,
    "spsa_images": 1,
    "spsa_steps": 1,
    "spsa_samples": 2,
    "check_images": 1,
    "epsilons": (),
}
BELOW_FLOORS = {
    "attacks": ATTACKS,
    "images": 60,
    "spsa_images": 20,
    "spsa_samples": 256,
    "spsa_steps": 50,
}

Case = tuple[str, str, Callable[[], keras.Model], dict[str, Any]]
"""Its sort, its name, what makes it, and the settings that are not the usual ones."""


def fake_behind(fake: str, front: str, plain: keras.Model) -> keras.Model:
    """A fake with noise in front of it, or alone."""
    return FRONTS[front](FAKES[fake](plain))


def hardened() -> keras.Model:
    """Trained against many steps."""
    return trained(network(width=128), "pgd-7", 40)


def of_the_hardened(front: str, plain: keras.Model) -> keras.Model:
    """The best decoy: the gradient of another network that has learned the same images well."""
    return FRONTS[front](keras.Sequential([keras.Input(SHAPE), Decoy(plain, hardened())]))


def of_the_collapsed(front: str) -> keras.Model:
    """Trained against one step until it bends its loss out of that step's way."""
    return FRONTS[front](collapsed())


def with_pnil() -> keras.Model:
    """Trained with its noise."""
    start = keras.initializers.Constant(2 * np.log(0.2))
    return trained(network(PNILLayer(bias_initializer=start)), "rfgsm", 30)


def cases(plain: keras.Model) -> Iterator[Case]:
    """All models; none is made before its turn."""
    for name, make in {
        "plain CNN": lambda: plain,
        "with max-pooling": lambda: trained(network(pool=keras.layers.MaxPooling2D())),
        "with tanh": lambda: trained(network(activation="tanh")),
        "hardened by PGD-7": hardened,
        "rounded, its gradient passed straight through": lambda: behind(StraightThrough(), plain),
        "behind noise of sigma 0.05": lambda: noisy(plain, 0.05),
        "behind noise of sigma 0.3": lambda: noisy(plain),
        "behind noise of sigma 0.3 that follows no seed": lambda: behind(RandomShift(), plain),
        "with PNIL, hardened by RFGSM": with_pnil,
    }.items():
        yield "honest", name, make, AUTO
    yield "token settings", "plain CNN", lambda: plain, TOKEN
    decoy = partial(fake_behind, "decoy", "behind noise", plain)
    yield "token settings", "decoy, behind noise", decoy, BELOW_FLOORS
    for front in FRONTS:
        for fake in FAKES:
            change = FEW_WITHOUT_SQUARE if front == UNSEEDED else FEW
            yield "fake", f"{fake}, {front}", partial(fake_behind, fake, front, plain), change
        decoy = partial(of_the_hardened, front, plain)
        yield "fake", f"decoy of the hardened network, {front}", decoy, FEW
        collapse = partial(of_the_collapsed, front)
        # Noise undoes the collapse: one step finds again what many do, and the figure is right.
        sort = "fake" if front == "alone" else "undone by noise"
        yield sort, f"collapsed in FGSM training, {front}", collapse, {**FEW, **TWICE_AS_FAR}


def judged(model: keras.Model, change: dict[str, Any]) -> dict[str, Any]:
    """What an evaluation says, with all that the verdict rests on."""
    x, y = digits()
    settings = EvaluationSettings(**{**vars(SETTINGS), **change})
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        results = evaluate(model, x[1400:], y[1400:], settings, Path(folder) / "out", verbose=0)
    failed = [finding for finding in results["findings"] if not finding["passed"]]
    return {
        "verdict": results["verdict"],
        "caught_by": [f["name"] for f in failed if f["weight"] == "hides"],
        "doubted_by": [f["name"] for f in failed if f["weight"] == "doubt"],
        "notes": [f["name"] for f in failed if f["weight"] == "note"],
        "clean": round(results["clean"]["value"], 4),
        "left": {name: round(one["value"], 4) for name, one in results["attacks"].items()},
        "values": {f["name"]: round(f["value"], 4) for f in results["findings"]},
        "changed_settings": change,
        "reason": results["verdict_reason"],
        "date": str(datetime.datetime.now(datetime.UTC).date()),
        "cpu_seconds": round(time.process_time() - begun, 1),
    }


def main(path: Path) -> None:
    """Evaluates what is not in the record yet."""
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    record = {
        "what": "The verdict on models of which the truth is known, and which checks decided it",
        "command": f"python tests/evaluation/record_planted.py {path}",
        "data": "scikit-learn digits; tests/evaluation/zoo.py, tests/evaluation/test_planted.py",
        "versions": versions(),
        "settings": SETTINGS.to_json(),
        "models": record.get("models", []),
    }
    keras.utils.set_random_seed(0)
    plain = trained(network())
    every = list(cases(plain))
    order = [(sort, name) for sort, name, *_ in every]
    record["models"] = [one for one in record["models"] if _key(one) in order]
    done = {_key(one) for one in record["models"]}
    for sort, name, make, change in every:
        if (sort, name) in done:
            continue
        keras.utils.set_random_seed(0)
        found = {"sort": sort, "model": name, **judged(make(), change)}
        record["models"].append(found)
        record["models"].sort(key=lambda one: order.index(_key(one)))
        write_json(path, record)
        decided = ", ".join(found["caught_by"] + found["doubted_by"])
        print(f"{sort}: {name}: {found['verdict']} ({decided})", flush=True)


def _key(one: dict[str, Any]) -> tuple[str, str]:
    return one["sort"], one["model"]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
