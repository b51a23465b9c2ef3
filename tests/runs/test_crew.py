"""Several processes do the attacks of one evaluation, and give the numbers of one process."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import pnil_tf
from pnil_tf.errors import RunFailedError, UserError
from pnil_tf.jobs import local
from pnil_tf.layers import PNILLayer
from pnil_tf.runs.certify import certify_saved
from pnil_tf.runs.evaluate import evaluate_saved
from pnil_tf.runs.shard_job import ShardJob

SMALL = {
    "attacks": ("pgd", "noise"),
    "steps": 2,
    "eot_samples": 2,
    "judge_draws": 4,
    "batch_size": 5,
    "checks": False,
    "verbose": 0,
}


def noisy_linear():
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            PNILLayer(bias_initializer=keras.initializers.Constant(-3.0)),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    model.layers[-1].kernel.assign(np.random.default_rng(1).normal(size=(16, 3)))
    return model


def of_bytes():
    """A model to transfer from: a pixel counts that is brighter than 25 of 255."""
    layers = [keras.layers.ReLU(threshold=25.0), keras.layers.Flatten(), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((4, 4, 1)), *layers])
    model.layers[-1].kernel.assign(np.random.default_rng(1).normal(size=(16, 3)) / 255)
    return pnil_tf.AdversarialModel(model, "fgsm", 0.1, pixel_range=(0, 255))


def images():
    x = np.random.default_rng(0).random((18, 4, 4, 1)).astype(np.float32)
    return x, (x.reshape(18, 16) @ np.random.default_rng(1).normal(size=(16, 3))).argmax(axis=1)


def same_arrays(file, other):
    with np.load(file) as one, np.load(other) as two:
        assert one.files == two.files
        for name in one.files:
            np.testing.assert_array_equal(one[name], two[name], err_msg=name)


@pytest.fixture
def killed_once(monkeypatch):
    """Has the process of shard 1 end by SIGKILL when it is first started; gives the starts."""
    starts, really = [], local.start

    def start(job, threads):
        starts.append(job.path.name)
        if starts.count("1") == 1 and job.path.name == "1":
            code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
            return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
        return really(job, threads)

    monkeypatch.setattr(local, "start", start)
    return starts


@pytest.mark.parametrize(
    "attacks", [("pgd", "noise"), pytest.param(("auto",), marks=pytest.mark.slow)]
)
def test_two_workers_of_which_one_is_killed_give_the_numbers_of_one(attacks, killed_once):
    model, (x, y), settings = noisy_linear(), images(), {**SMALL, "attacks": attacks}
    settings |= {"transfer_from": of_bytes()}
    alone = pnil_tf.evaluate(model, x, y, 0.1, **settings)
    shared = pnil_tf.evaluate(model, x, y, 0.1, workers=2, **settings)
    assert sorted(killed_once) == ["0", "1", "1"]
    for file in ("arrays.npz", "adversarial.npz"):
        same_arrays(alone.folder / file, shared.folder / file)
    assert shared.robust_accuracy == alone.robust_accuracy


@pytest.mark.slow
def test_two_workers_of_which_one_is_killed_prove_what_one_does(killed_once):
    model, (x, _) = noisy_linear(), images()
    asked = {"epsilon": 0.01, "draws": 300, "batch_size": 100, "verbose": 0}
    shared = pnil_tf.certify(model, x, workers=2, **asked)
    alone = pnil_tf.certify(model, x, seed=shared.to_dict()["settings"]["seed"], **asked)
    assert sorted(killed_once) == ["0", "1", "1"]
    same_arrays(alone.folder / "certificate.npz", shared.folder / "certificate.npz")
    assert shared.to_dict()["curve"] == alone.to_dict()["curve"]


def test_all_processes_are_told_the_seed_that_the_certificate_has_chosen(monkeypatch):
    told = []

    def stop(engine, jobs, *_, **__):
        told.extend(job.task["settings"]["seed"] for job in jobs)
        raise KeyboardInterrupt

    monkeypatch.setattr("pnil_tf.runs.crew.run_jobs", stop)
    with pytest.raises(KeyboardInterrupt):
        pnil_tf.certify(noisy_linear(), images()[0], epsilon=0.01, draws=300, verbose=0, workers=2)
    assert told[0] is not None
    assert told == told[:1] * 2


def test_a_worker_that_fails_is_not_tried_again_and_says_why(monkeypatch):
    started = []

    def start(job, threads):
        started.append(job)
        job.note_failure("The model cannot be loaded.")
        return subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])

    monkeypatch.setattr(local, "start", start)
    with pytest.raises(RunFailedError, match=r"failed: The model cannot be loaded\.$"):
        pnil_tf.evaluate(noisy_linear(), *images(), 0.1, workers=2, **SMALL)
    assert len(started) == 2


def test_a_worker_that_is_lost_again_and_again_is_given_up(tmp_path):
    job = ShardJob(tmp_path / "0")
    job.prepare({"gpu": None})
    for _ in range(5):
        job.note_end(-9)
        assert job.is_lost()
    job.note_end(-9)
    assert not job.is_lost()
    assert not job.finished
    assert job.error == "The process was ended by SIGKILL; see log.txt."


def test_a_worker_has_one_gpu_and_leaves_room_on_it(tmp_path):
    job = ShardJob(tmp_path / "0")
    job.prepare({"gpu": "3"})
    assert job.environment == {
        "CUDA_VISIBLE_DEVICES": "3",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    }


def test_a_callable_cannot_be_given_to_workers():
    x, y = images()
    with pytest.raises(UserError, match=r"a function with workers=2\. Give a Keras model"):
        pnil_tf.evaluate(lambda x: x, x, y, 0.1, workers=2, **SMALL)


def test_a_cluster_that_cannot_be_had_is_refused_before_anything_is_loaded(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    for workers, engine, says in ((0, "local", "workers"), (2, "ray", r"pnil_tf\[ray\]")):
        with pytest.raises(UserError, match=says):
            pnil_tf.evaluate("no model", None, workers=workers, engine=engine, **SMALL)
        with pytest.raises(UserError, match=says):
            evaluate_saved("no model", workers=workers, engine=engine)
        with pytest.raises(UserError, match=says):
            pnil_tf.certify("no model", None, workers=workers, engine=engine)
        with pytest.raises(UserError, match=says):
            certify_saved("no model", workers=workers, engine=engine)


def test_an_engine_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match="engine"):
        pnil_tf.evaluate(noisy_linear(), *images(), 0.1, engine="lokal", **SMALL)
