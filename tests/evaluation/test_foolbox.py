"""No attack from outside finds what ours overlook. Needs the extra `foolbox`."""

import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from command import run

from pnil_tf.evaluation.judge import Judge
from pnil_tf.evaluation.runner import evaluate
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.runs.evaluate import settle

IMAGES = 200
RESTARTS, STEPS, DRAWS = 5, 100, 16


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on real images; `PNIL_TF_RUN=runs/NAME` names another than this short one."""
    if os.environ.get("PNIL_TF_RUN"):
        return Path(os.environ["PNIL_TF_RUN"])
    folder = tmp_path_factory.mktemp("runs")
    flags = ["--dataset=mnist", "--pnil", "--attack=rfgsm", "--epsilon=0.15", "--epochs=2"]
    flags += [f"--runs_dir={folder}", "--name=short", "--evaluation_images=0"]
    status, _, err = run("train.py", *flags)
    assert status == 0, err
    return folder / "short"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_foolbox_finds_no_more_than_our_worst_case(trained, tmp_path, monkeypatch):
    # Foolbox 3.3 calls a function that NumPy 2 no longer has.
    monkeypatch.setattr(np, "find_common_type", lambda a, b: np.result_type(*a, *b), raising=False)
    foolbox = pytest.importorskip("foolbox")
    saved = settle(str(trained)).load()
    test = saved.dataset.test.take(IMAGES)
    x, y = test.images.astype(np.float32) / 255.0, test.labels.astype(np.int32)
    settings = EvaluationSettings(
        epsilon=saved.epsilon, images=IMAGES, attacks=("pgd", "pgd_strong"), checks=False
    )
    ours = evaluate(saved.loaded.model, x, y, settings, tmp_path / "ours")
    worst = ours["worst_case_per_image"]["value"]

    model = saved.loaded.model
    judge = Judge(lambda images: model(images, training=False), 100)
    # A function, since Foolbox calls a Keras model with an argument that Keras 3 refuses.
    wrapped = foolbox.TensorFlowModel(tf.function(lambda images: model(images)), bounds=(0, 1))
    averaged = foolbox.models.ExpectationOverTransformationWrapper(wrapped, DRAWS)
    attack = foolbox.attacks.LinfProjectedGradientDescentAttack(
        steps=STEPS, rel_stepsize=0.03, random_start=True
    )
    left = np.ones(IMAGES, np.float32)
    theirs = np.array(x)
    for restart in range(RESTARTS):
        _, found, _ = attack(
            averaged, tf.constant(x), tf.constant(y), epsilons=float(saved.epsilon)
        )
        found = np.clip(found.numpy(), x - saved.epsilon, x + saved.epsilon)
        share = judge(found, y, 1000 + restart)
        better = share < left
        left[better], theirs[better] = share[better], found[better]
    # Judged anew: the draws that chose an image must not be those that count.
    accuracy = judge(theirs, y, 2000).mean()
    print(f"Foolbox leaves {accuracy:.1%}, our worst case {worst:.1%} of {IMAGES} images")
    assert accuracy >= worst - 0.02
