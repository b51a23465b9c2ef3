"""The benchmarks of training and of start-up run, and count what they say."""

import functools
import sys
import time

import keras
import pytest

from pnil_tf.benchmark import epoch, memory, photographs, precision, real_size, run, startup, train
from pnil_tf.benchmark.epoch import epoch_benchmark
from pnil_tf.benchmark.memory import memory_benchmark
from pnil_tf.benchmark.settings import BenchmarkSettings
from pnil_tf.benchmark.startup import first_step, startup_benchmark
from pnil_tf.benchmark.table import markdown
from pnil_tf.benchmark.train import train_benchmark
from pnil_tf.data.image_files import Reader
from pnil_tf.errors import RunFailedError, UserError
from pnil_tf.training.precision import chosen_precision


@pytest.mark.slow
def test_rows_of_training(monkeypatch):
    monkeypatch.setattr(train, "_ATTACKS", ("fgsm", "pgd-7"))
    rows = train_benchmark("small_cnn", width=2, batch_size=4, steps=2, rounds=1)
    with_floor = [row for row in rows if "floor" in row]
    assert [row["training"] for row in with_floor[:3]] == ["Keras fit", "none", "fgsm"]
    assert [round(row["floor"], 2) for row in with_floor[:4]] == [1, 1, 1.67, 5.67]
    assert all(row["per_second"] > 0 < row["floor_per_second"] for row in with_floor)
    # The noise of a step is no training, and has no floor.
    assert [row["pnil"] for row in rows if "floor" not in row] == [False, True]
    assert markdown(rows).count("\n") == len(rows) + 1


@pytest.mark.slow
def test_rows_of_precisions(monkeypatch):
    def network(normalized):
        layers = [keras.layers.BatchNormalization()] if normalized else []
        layers += [keras.layers.Flatten(), keras.layers.Dense(10, dtype="float32")]
        return keras.Sequential([keras.Input((28, 28, 1)), *layers])

    def ways(normalized):
        monkeypatch.setattr(precision, "build_model", lambda *_, **__: network(normalized))
        monkeypatch.setattr(precision, "_TRAININGS", ("rfgsm",))
        how = {"width": 1, "batch_size": 2, "steps": 1, "rounds": 1}
        rows = precision.precision_benchmark("small_cnn", **how)
        assert rows[0]["ratio"] == 1.0
        return [(row["precision"], row["batch normalization"]) for row in rows]

    policies = ("float32", chosen_precision("true").policy)
    assert ways(True) == [(policy, way) for policy in policies for way in ("ours", "Keras' own")]
    assert ways(False) == [(policy, "ours") for policy in policies]
    assert keras.mixed_precision.global_policy().name == "float32"


def test_rows_of_an_epoch(monkeypatch):
    monkeypatch.setattr(epoch, "_IMAGES", 40)
    rows = epoch_benchmark(width=2, batch_size=10, rounds=1)
    assert [row["what"] for row in rows] == ["steps alone", "an epoch of a run", "data alone"]
    assert rows[0]["ratio"] == 1.0


def test_rows_of_start_up(monkeypatch, tmp_path):
    (tmp_path / "slow.py").write_text("import time; time.sleep(0.3)")
    monkeypatch.setattr(startup, "_IN_PYTHON", {"nothing": "pass"})
    monkeypatch.setattr(startup, "_SCRIPTS", tmp_path)
    nothing, slow = startup_benchmark(rounds=1)
    assert (nothing["what"], slow["what"]) == ("nothing", "bin/slow.py --help")
    assert slow["seconds"] >= 0.3


def test_the_first_step_is_one_that_works():
    first_step()


def test_peak_memory_is_that_of_the_other_process(monkeypatch, tmp_path):
    script = tmp_path / "evaluate.py"
    script.write_text(
        "import sys\n"
        "flags = dict(a[2:].split('=', 1) for a in sys.argv[1:])\n"
        "held = b'x' * (int(flags['images']) << 20)\n"
    )
    monkeypatch.setattr(memory, "_SCRIPT", script)
    monkeypatch.setattr(memory, "_SIZES", ((1, 10), (200, 10)))
    small, large = memory_benchmark("runs/x")
    assert large["peak_mib"] - small["peak_mib"] == pytest.approx(199, abs=20)


def test_an_evaluation_that_fails_is_named(monkeypatch, tmp_path):
    script = tmp_path / "evaluate.py"
    script.write_text("raise SystemExit(2)")
    monkeypatch.setattr(memory, "_SCRIPT", script)
    with pytest.raises(RunFailedError, match=r"status 2.*--model=runs/x"):
        memory_benchmark("runs/x")


def test_what_starts_processes_is_measured_before_this_one_computes(monkeypatch):
    called = []
    for name in ("startup", "memory", "real_size", "epoch", "train"):
        benchmark = functools.partial(
            lambda called_as, *_, **__: called.append(called_as) or [], name
        )
        monkeypatch.setattr(run, f"{name}_benchmark", benchmark)
    asked = dict.fromkeys(("train", "epoch", "startup", "real_size", "memory"), True)
    results = run.run_benchmarks(BenchmarkSettings(**asked, benchmark_run="runs/x"))
    assert called == ["startup", "memory", "real_size", "train", "epoch"]
    assert set(called) <= set(results)


def test_a_run_that_cannot_be_attacked_is_refused_before_the_training_steps(monkeypatch):
    def refused(settings):
        raise UserError("no noise")

    monkeypatch.setattr(run, "_attacked", refused)
    monkeypatch.setattr(run, "train_benchmark", None)  # is not called
    with pytest.raises(UserError, match="no noise"):
        run.run_benchmarks(BenchmarkSettings(train=True, evaluate=True, benchmark_run="runs/x"))


@pytest.mark.slow
def test_rows_of_images_as_large_as_photographs(monkeypatch):
    monkeypatch.setattr(real_size, "_SHAPE", (32, 32, 3))
    monkeypatch.setattr(real_size, "REAL_SIZE_MODEL", "resnet11")
    read = Reader.images

    def read_slowly(reader, places):
        time.sleep(0.3)
        return read(reader, places)

    monkeypatch.setattr(Reader, "images", read_slowly)
    measured = []
    monkeypatch.setattr(real_size, "peak_mib", lambda name, _: measured.append(name) or 7.0)
    one_batch = real_size.one_batch

    def computed_after_the_processes(*how):
        assert len(measured) == 7  # this process now takes a GPU's memory and keeps it
        return one_batch(*how)

    monkeypatch.setattr(real_size, "one_batch", computed_after_the_processes)
    rows = real_size.real_size_benchmark(batch_size=4, steps=2, rounds=1)
    names = ["Keras fit", "none", "rfgsm", "nfgsm", "rfgsm with PNIL", "nfgsm with PNIL"]
    names.append("PGD with EOT, 4 draws")
    assert [row["step"] for row in rows] == [*names, "nfgsm with PNIL, from files", "files alone"]
    assert [row["step"] for row in rows if "waiting" in row] == [rows[-2]["step"]]
    assert 0.2 < rows[-2]["waiting"] < 1  # nothing was read while others ran
    assert rows[-1]["per_second"] < 2 * 4 / 0.3
    # A step of fit counts 3 forward passes, of rfgsm 5, a gradient of 4 draws 8, reading none.
    floors = {row["step"]: row.get("floor_per_second") for row in rows}
    assert floors["Keras fit"] == floors["none"]
    assert floors["none"] / floors["rfgsm"] == pytest.approx(5 / 3)
    assert floors["none"] / floors["PGD with EOT, 4 draws"] == pytest.approx(8 / 3)
    assert floors["files alone"] is None
    assert [row["step"] for row in rows if "peak_mib" in row] == measured == names


@pytest.mark.parametrize("count", ["0", "-1", "many"])
def test_photographs_are_counted_from_one_on(count, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "photographs"
    monkeypatch.setattr(sys, "argv", ["photographs", str(folder), count, "64"])
    with pytest.raises(SystemExit, match="2"):
        photographs._main()
    assert f"from 1 on. Received: {count!r}" in capsys.readouterr().err
    assert not folder.exists()
