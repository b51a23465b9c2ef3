"""In which precision a training computes, and why."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf.data import DataSettings
from pnil_tf.errors import UserError
from pnil_tf.files import read_json, write_json
from pnil_tf.runs import training_job
from pnil_tf.runs.settings import RunSettings, TrainSettings
from pnil_tf.runs.train import train
from pnil_tf.training import precision
from pnil_tf.training.precision import Precision, chosen_precision
from pnil_tf.training.settings import (
    AttackTrainingSettings,
    DeviceSettings,
    ModelSettings,
    OptimizationSettings,
)

NEW, OLD = "flags\t: fpu avx512f avx512_bf16 sse\n", "flags\t: fpu avx512f sse\n"


@pytest.fixture
def cpu(monkeypatch, tmp_path):
    """Says what the CPU has."""

    def says(text):
        file = tmp_path / "cpuinfo"
        file.write_text(text)
        monkeypatch.setattr(precision, "_CPU_INFO", file)

    return says


@pytest.fixture
def gpus(monkeypatch):
    """Lets TensorFlow see GPUs of these compute capabilities; `None` tells of none."""

    def seen(*capabilities):
        devices = [tf.config.PhysicalDevice(str(i), "GPU") for i in range(len(capabilities))]
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: devices)

        def details(device):
            capability = capabilities[int(device.name)]
            return {"compute_capability": capability} if capability else {}

        monkeypatch.setattr(tf.config.experimental, "get_device_details", details)

    return seen


@pytest.mark.parametrize(
    ("text", "policy", "why"),
    [
        (NEW, "mixed_bfloat16", "the CPU has avx512_bf16"),
        ("flags : amx_tile amx_bf16", "mixed_bfloat16", "the CPU has amx_bf16"),
        (OLD, "float32", "the CPU has none of avx512_bf16, amx_bf16"),
        ("flags : not_avx512_bf16_at_all", "float32", "the CPU has none"),
    ],
)
def test_a_cpu_decides_by_its_instructions(cpu, text, policy, why):
    cpu(text)
    found = chosen_precision("auto")
    assert found.policy == policy
    assert found.why.startswith(why)


def test_where_nothing_tells_of_the_cpu_it_is_float32(monkeypatch, tmp_path):
    monkeypatch.setattr(precision, "_CPU_INFO", tmp_path / "nothing")
    found = chosen_precision("auto")
    assert found.policy == "float32"
    assert "which is not there" in found.why


@pytest.mark.parametrize(
    ("capabilities", "policy"),
    [
        ([(9, 0)], "mixed_float16"),
        ([(7, 0), (8, 6)], "mixed_float16"),
        ([(6, 1)], "float32"),
        ([(9, 0), (6, 1)], "float32"),
        ([None], "float32"),
    ],
)
def test_gpus_decide_by_their_tensor_cores(gpus, cpu, capabilities, policy):
    cpu(NEW)  # which does not matter then
    gpus(*capabilities)
    assert chosen_precision("auto").policy == policy


@pytest.mark.parametrize("text", [NEW, OLD])
def test_what_was_asked_for_is_done(cpu, gpus, text):
    cpu(text)
    assert chosen_precision("true") == Precision("mixed_bfloat16", "it was asked for")
    assert chosen_precision("false") == Precision("float32", "it was asked for")
    gpus((6, 1))
    assert chosen_precision("true").policy == "mixed_float16"


def test_the_setting_is_a_word_and_was_a_truth_value():
    assert [DeviceSettings(mixed_precision=v).mixed_precision for v in (True, False)] == [
        "true",
        "false",
    ]
    assert DeviceSettings().mixed_precision == "false"
    with pytest.raises(UserError, match=r"mixed_precision.*'maybe'"):
        DeviceSettings(mixed_precision="maybe")


def test_workers_do_not_each_decide_by_their_own_processor(monkeypatch):
    kind = tf.distribute.MultiWorkerMirroredStrategy
    monkeypatch.setattr(training_job, "make_strategy", lambda _: object.__new__(kind))
    monkeypatch.setattr(training_job, "_check_batch", lambda *_: None)
    settings = TrainSettings(DataSettings("mnist"), device=DeviceSettings(mixed_precision="auto"))
    with pytest.raises(UserError, match="workers may have different ones"):
        training_job.prepare(settings)


def test_a_run_tells_its_choice_and_goes_on_with_it_elsewhere(cpu, tmp_path, blobs, caplog):
    x, y = blobs
    np.savez(tmp_path / "blobs.npz", x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])

    def settings(mixed_precision, **run):
        return TrainSettings(
            data=DataSettings(f"npz:{tmp_path / 'blobs.npz'}"),
            model=ModelSettings(width=2),
            attack=AttackTrainingSettings(attack="fgsm", epsilon=0.1, validation_images=10),
            optimization=OptimizationSettings(epochs=1),
            device=DeviceSettings(mixed_precision=mixed_precision),
            run=RunSettings(str(tmp_path), "run", evaluation_images=0, **run),
        )

    cpu(NEW)
    with caplog.at_level(logging.INFO):
        record = train(settings("auto"))
    assert "Computing in mixed_bfloat16: the CPU has avx512_bf16." in caplog.text
    kept = {"policy": "mixed_bfloat16", "why": "the CPU has avx512_bf16"}
    assert record["device"]["precision"] == kept
    assert record["settings"]["device"]["mixed_precision"] == "auto"
    file = tmp_path / "run" / "run.json"

    def resumed(mixed_precision, **changed):
        write_json(file, record | {"status": "unfinished"} | changed)
        given = {"mixed_precision": mixed_precision}
        train(settings(mixed_precision, resume=True), given)
        return keras.mixed_precision.global_policy().name

    cpu(OLD)
    assert resumed("auto") == "mixed_bfloat16"
    assert read_json(file)["device"]["precision"] == kept
    # Before a choice was kept, and before it could be auto.
    device = {k: v for k, v in record["device"].items() if k != "precision"}
    asked = record["settings"]
    old = asked | {"device": asked["device"] | {"mixed_precision": True}}
    assert resumed("true", device=device, settings=old) == "mixed_bfloat16"
    with pytest.raises(UserError, match="begun with mixed_precision='true'"):
        resumed("false", device=device, settings=old)
    with pytest.raises(UserError, match=r"run\.json does not say what it should .*'float8'"):
        resumed("auto", device=device | {"precision": kept | {"policy": "float8"}})
