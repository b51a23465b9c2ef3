"""Batches follow from what a network computes for an image, and shrink where memory is small."""

import dataclasses
import subprocess

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf.attacks.registry import attack_settings
from pnil_tf.contract.trace import traced
from pnil_tf.data import memory
from pnil_tf.evaluation import room as room_module
from pnil_tf.evaluation.probes import configured
from pnil_tf.evaluation.room import Room, room_for, with_batch_size
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.evaluation.target import as_target

GIB = 2**30


def small_network(side=8):
    return keras.Sequential(
        [
            keras.Input((side, side, 1)),
            keras.layers.Conv2D(3, 3, padding="same", use_bias=False),
            keras.layers.Flatten(),
            keras.layers.Dense(2, use_bias=False),
        ]
    )


def test_what_a_network_computes_for_an_image_is_counted():
    counted = traced(small_network(), (8, 8, 1)).values
    # The image, the convolution, its flat view, and the logits.
    least = 8 * 8 + 2 * 8 * 8 * 3 + 2
    assert least <= counted <= 2 * least


def test_what_happens_inside_a_function_counts_and_weights_do_not():
    model = small_network()

    @tf.function
    def inner(images):
        return model(images)

    plain = traced(model, (8, 8, 1)).values
    assert plain <= traced(lambda images: inner(images), (8, 8, 1)).values <= plain + 2 * 2
    wide = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
    assert traced(wide, (8, 8, 1)).values < 4 * 64


def test_small_images_are_worked_on_as_ever():
    room = as_target(small_network(), np.zeros((4, 8, 8, 1), np.float32)).room
    assert (room.images(), room.images(250)) == (100, 250)


@pytest.mark.parametrize(("rows", "images"), [(1, 1), (3, 2), (31, 16), (99, 64), (100, 100)])
def test_a_batch_is_a_power_of_two_that_fits(rows, images):
    assert Room(rows=rows).images() == images


@pytest.mark.parametrize(
    ("said", "fewer"),
    [
        ("4096\n", True),
        ("81559\n4096\n", True),
        ("81559\n", False),
        ("[N/A]", False),
        (None, False),
    ],
)
def test_a_small_gpu_takes_fewer_at_once(said, fewer, monkeypatch):
    monkeypatch.setattr(room_module, "on_gpu", lambda: True)

    def room():
        room_module._bytes_of_a_gpu.cache_clear()
        return room_for(30_000_000, (224, 224, 3))

    monkeypatch.setenv("PATH", "")  # no driver says anything
    usual = room()

    def asked(command, **_):
        if said is None:
            raise subprocess.CalledProcessError(9, command)
        return subprocess.CompletedProcess(command, 0, said)

    monkeypatch.setattr(subprocess, "run", asked)
    assert (room().rows < usual.rows) == fewer
    assert room().images(workers=8) == room().images()  # each has a GPU
    monkeypatch.undo()
    room_module._bytes_of_a_gpu.cache_clear()


def test_a_process_that_may_use_little_takes_fewer_at_once(monkeypatch):
    found = {}
    for available in (None, 64 * GIB, 3 * GIB, GIB, 2**20):
        monkeypatch.setattr(room_module, "available_bytes", lambda given=available: given)
        found[available] = room_for(30_000_000, (224, 224, 3))
    # But for what several processes have together.
    assert dataclasses.replace(found[64 * GIB], together=found[None].together) == found[None]
    rows = [found[available].rows for available in (64 * GIB, 3 * GIB, GIB, 2**20)]
    assert rows == sorted(rows, reverse=True)
    assert rows[0] > rows[2] > rows[3] == 1
    # Points decide random numbers, whatever the machine.
    assert len({each.points for each in found.values()}) == 1


def test_who_says_how_many_gets_them():
    settings = EvaluationSettings(epsilon=0.1)
    assert settings.batch_size is None
    assert with_batch_size(settings, Room(rows=12)).batch_size == 8
    asked = EvaluationSettings(epsilon=0.1, batch_size=70)
    assert with_batch_size(asked, Room(rows=12)) is asked


def test_draws_share_a_pass_as_far_as_they_fit():
    target = as_target(small_network(), np.zeros((4, 8, 8, 1), np.float32))
    settings = EvaluationSettings(epsilon=0.1, batch_size=8)
    usual = attack_settings("pgd", 0.1)
    assert configured("pgd", 0.1, settings, target).eot.chunk == usual.eot.chunk > 2
    object.__setattr__(target, "room", Room(rows=16, points=30))
    narrow = configured("pgd", 0.1, settings, target)
    assert narrow.eot.chunk == 2
    parts = [s.max_evaluations_in_flight // s.eot.chunk for s in (usual, narrow)]
    assert parts[0] == parts[1]  # each part of a batch has its seed
    assert configured("spsa", 0.1, settings, target).max_evaluations_in_flight == 30


def test_of_noise_that_belongs_to_a_pass_no_memory_decides_how_many_draws_share_one(monkeypatch):
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.GaussianNoise(0.3)])
    model.add(keras.layers.Flatten())
    model.add(keras.layers.Dense(2))

    class Noisy(keras.Model):
        def call(self, images):
            return model(images, training=True)

    examples = np.zeros((4, 8, 8, 1), np.float32)
    draws, images = set(), []
    for available in (64 * GIB, 3 * 2**20, 2**16):
        monkeypatch.setattr(room_module, "available_bytes", lambda given=available: given)
        target = as_target(Noisy(), examples)
        settings = with_batch_size(EvaluationSettings(epsilon=0.1), target.room)
        attack = configured("pgd", 0.1, settings, target)
        draws.add((attack.eot.chunk, attack.max_evaluations_in_flight))
        images.append(settings.batch_size)
        assert (
            settings.batch_size == 1 or settings.batch_size * attack.eot.chunk <= target.room.rows
        )
    assert len(draws) == 1
    assert images[0] == 100 > images[1] > images[2] == 1


def test_workers_change_the_batch_only_where_memory_does_not_hold_theirs_together(caplog):
    settings = EvaluationSettings(epsilon=0.1)
    assert with_batch_size(settings, Room(rows=64), 4).batch_size == 64  # of a GPU for each
    assert with_batch_size(settings, Room(rows=64, together=256), 4).batch_size == 64
    assert not caplog.messages
    assert with_batch_size(settings, Room(rows=64, together=255), 4).batch_size == 32
    [warning] = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "4 processes holds batches of 32 images, and not of 64" in warning
    assert warning.endswith("the same figures with batch_size=32.")


@pytest.mark.parametrize(("gib", "workers", "images"), [(64, 8, 100), (8, 2, 100), (8, 4, 64)])
def test_each_of_several_processes_has_the_room_of_one_while_memory_lasts(
    monkeypatch, gib, workers, images
):
    monkeypatch.setattr(room_module, "on_gpu", lambda: False)
    monkeypatch.setattr(room_module, "available_bytes", lambda: gib * GIB)
    room = room_for(values=11_000_000, image_shape=(8, 8, 3))
    assert (room.images(), room.images(workers=workers)) == (100, images)


def test_a_batch_below_the_usual_is_told(caplog):
    with caplog.at_level("INFO", "pnil_tf.evaluation.room"):
        with_batch_size(EvaluationSettings(epsilon=0.1), Room())
        assert not caplog.messages
        with_batch_size(EvaluationSettings(epsilon=0.1), Room(rows=12))
    assert caplog.messages[0].startswith("8 of these images share a batch, not 100")


V2 = {
    "/proc/self/cgroup": "0::/user/job",
    "/sys/fs/cgroup/memory.max": "max",
    "/sys/fs/cgroup/memory.current": "1",
    "/sys/fs/cgroup/user/job/memory.max": "4000000000",
    "/sys/fs/cgroup/user/job/memory.current": "3900000000",
    "/sys/fs/cgroup/user/job/memory.stat": "anon 5\ninactive_file 2000000000\nactive_file 5\n",
}
V1 = {
    "/proc/self/cgroup": "3:cpuset:/\n2:cpu,memory:/job\n0::/",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes": str(2**63 - 4096),
    "/sys/fs/cgroup/memory/memory.usage_in_bytes": "5000000000",
    "/sys/fs/cgroup/memory/job/memory.limit_in_bytes": "4000000000",
    "/sys/fs/cgroup/memory/job/memory.usage_in_bytes": "3900000000",
    "/sys/fs/cgroup/memory/job/memory.stat": "inactive_file 1\ntotal_inactive_file 2000000000\n",
}
OUTER = {
    **V2,
    "/sys/fs/cgroup/user/memory.max": "3000000000",
    "/sys/fs/cgroup/user/memory.current": "2900000000",
}


# The files that were read do not count as taken: they give way.
@pytest.mark.parametrize(
    ("files", "left"),
    [
        pytest.param(V2, 2_100_000_000, id="version 2"),
        pytest.param(V1, 2_100_000_000, id="version 1"),
        pytest.param(OUTER, 100_000_000, id="a group around its own"),
        pytest.param({}, None, id="no group"),
    ],
)
def test_what_control_groups_leave_of_memory(files, left, monkeypatch):
    monkeypatch.setattr(memory, "_read", lambda path: files.get(str(path), ""))
    monkeypatch.setattr(
        memory.resource, "getrlimit", lambda kind: (memory.resource.RLIM_INFINITY,) * 2
    )
    # Where nothing tells what is available, as on macOS, there is what the machine has.
    has = memory.os.sysconf("SC_PHYS_PAGES") * memory.os.sysconf("SC_PAGE_SIZE")
    assert memory.available_bytes() == (has if left is None else left)
    monkeypatch.setattr(memory.os, "sysconf_names", {})
    assert memory.available_bytes() == left
