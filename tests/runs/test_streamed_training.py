"""What a training and an evaluation make of images in files is what they make of them in memory."""

import json
import re
import shutil
import signal
import time

import numpy as np
import pytest
from command import assert_nearly_same, assert_same, run, start
from jpeg_folder import write_jpegs
from workers import tf_config_environments, train_together

from pnil_tf.data.types import READ_WHEN_NEEDED

FLAGS = [
    "--image_size=16x12",
    "--pixel_range=0,255",
    "--pnil",
    "--epsilon=8/255",
    "--augment=flip_crop",
    "--epochs=3",
    "--batch_size=8",
    "--checkpoint_steps=5",
    "--validation_images=9",
    "--evaluation_images=0",
    "--guard=off",
    "--deterministic",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    write_jpegs(folder / "pets", train=96, test=40)
    return folder


def flags(place, name, *further):
    return [f"--dataset=folder:{place / 'pets'}", f"--runs_dir={place}", f"--name={name}", *further]


def train(place, name, *further):
    status, _, err = run("train.py", *FLAGS, *flags(place, name, *further))
    assert status == 0, err
    return place / name


@pytest.fixture(scope="module")
def in_memory(place):
    return train(place, "in_memory", "--data_in_memory=true")


@pytest.mark.slow
@pytest.mark.faults
def test_streamed_killed_and_resumed_it_ends_with_the_same_bits(place, in_memory):
    directory = place / "killed"
    process = start("train.py", *FLAGS, *flags(place, "killed", "--data_in_memory=false"))
    checkpoints = directory / "checkpoints" / "last"
    while not any(int(file.stem[5:]) >= 15 for file in checkpoints.glob("step-*.index")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    status, _, err = run("train.py", "--resume", f"--runs_dir={place}", "--name=killed")
    assert status == 0, err
    assert "Going on after step" in err
    assert_same(in_memory, directory)


@pytest.mark.slow
def test_an_evaluation_counts_the_same_votes_from_files_as_from_memory(place, in_memory):
    found = []
    for asked in ("true", "false"):
        output = place / f"evaluation_{asked}"
        status, _, err = run(
            "evaluate.py",
            f"--model={in_memory}",
            f"--output={output}",
            f"--data_in_memory={asked}",
            "--images=6",
            "--attacks=pgd",
            "--steps=2",
            "--eot_samples=2",
            "--nochecks",
        )
        assert status == 0, err
        with np.load(output / "arrays.npz") as arrays:
            found.append(dict(arrays))
    for name, votes in found[0].items():
        np.testing.assert_array_equal(votes, found[1][name], err_msg=name)


@pytest.mark.slow
@pytest.mark.faults
def test_a_file_that_vanishes_during_a_training_is_named_and_the_run_can_go_on(place, in_memory):
    directory = place / "vanished"
    process = start("train.py", *FLAGS, *flags(place, "vanished", "--data_in_memory=false"))
    checkpoints = directory / "checkpoints" / "last"
    while not any(checkpoints.glob("step-*.index")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    file = place / "pets/train/dog/5.jpg"
    kept = file.read_bytes()
    file.unlink()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert "train/dog/5.jpg is no file" in err
    assert "the same command with --resume" in err
    assert "Traceback" not in err
    file.write_bytes(kept)
    # With the images in memory, to which a run may change.
    arguments = [f"--runs_dir={place}", "--name=vanished", "--resume", "--data_in_memory=true"]
    status, _, err = run("train.py", *arguments)
    assert status == 0, err
    assert_same(in_memory, directory)


# Images that take 190 MiB, in a process that may take little more than its libraries do.
LARGE = ["--image_size=128", "--model=resnet11", "--width=4", "--attack=fgsm", "--nopnil"]
LARGE += ["--epochs=1", "--batch_size=50", "--augment=none"]
LIMITED = ("sh", "-c", 'ulimit -d 1000000; exec "$@"', "sh")


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return write_jpegs(tmp_path_factory.mktemp("many"), train=1000, test=3000)


@pytest.mark.slow
@pytest.mark.faults
def test_data_larger_than_the_memory_of_a_process_are_streamed_killed_and_resumed(place, many):
    arguments = [*FLAGS, *LARGE, *flags(place, "limited"), f"--dataset=folder:{many}"]
    status, _, err = run("train.py", *arguments, "--data_in_memory=true", prefix=LIMITED)
    assert status == 2, err
    assert re.search("too large for this machine's memory: 4,000 images .* read them from", err)
    assert not (place / "limited").exists()
    process = start("train.py", *arguments, prefix=LIMITED)
    while not any(int(step.stem[5:]) >= 10 for step in checkpoints(place / "limited")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    status, _, err = run(
        "train.py", "--resume", f"--runs_dir={place}", "--name=limited", prefix=LIMITED
    )
    assert status == 0, err
    assert "Going on after step" in err
    assert READ_WHEN_NEEDED in err
    held = train(place, "held", *LARGE, f"--dataset=folder:{many}", "--data_in_memory=true")
    assert_same(held, place / "limited")


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("asked", ["true", "false"])
def test_a_run_that_skips_damaged_files_goes_on_without_them(place, asked):
    harmed = place / f"harmed_{asked}"
    shutil.copytree(place / "pets", harmed)
    file = harmed / "train" / "dog" / "5.jpg"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    common = [f"--dataset=folder:{harmed}", f"--data_in_memory={asked}"]
    name = f"skips_{asked}"
    status, _, err = run("train.py", *FLAGS, *flags(place, name, *common))
    assert status == 2, err
    assert not (place / name).exists()
    undisturbed = train(place, f"{name}_undisturbed", *common, "--skip_damaged")
    process = start("train.py", *FLAGS, *flags(place, name, *common, "--skip_damaged"))
    while not any(int(step.stem[5:]) >= 15 for step in checkpoints(place / name)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = ["--resume", f"--runs_dir={place}", f"--name={name}"]
    file.write_bytes(whole)  # then it is another set of images
    status, _, err = run("train.py", *again)
    assert status == 2, err
    assert "other images" in err
    file.write_bytes(whole[: len(whole) // 2])
    moved = harmed.rename(place / f"moved_{asked}")
    status, _, err = run("train.py", *again)
    assert status == 2, err
    assert f"not at {harmed}. Bring them there, or say where they are: --dataset" in err
    status, _, err = run("train.py", *again, f"--dataset=folder:{moved}")
    assert status == 0, err
    assert "5.jpg" in err
    assert_same(undisturbed, place / name)
    assert f"--dataset=folder:{moved}\n" in (place / name / "flags.cfg").read_text()
    assert json.loads((place / name / "run.json").read_text())["data"]["name"] == f"folder:{moved}"


# What two workers add up in another order than one device, and as exactly.
SHARED = ["--nopnil", "--augment=none", "--attack=fgsm", "--norm=l2", "--epsilon=1"]
SHARED += ["--schedule=constant", "--max_lr=0.001", "--epochs=5"]


@pytest.fixture(scope="module")
def one_device(place):
    return train(place, "one", *SHARED)


@pytest.mark.slow
def test_replicas_and_workers_share_one_order(place, one_device):
    train(place, "two_devices", *SHARED, "--data_in_memory=false", "--num_cpu_devices=2")
    arguments = [*FLAGS, *flags(place, "two_workers", *SHARED, "--data_in_memory=false")]
    train_together(tf_config_environments(), *arguments)
    for name in ("two_devices", "two_workers"):
        assert_nearly_same(one_device, place / name)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("victim", [0, 1])
def test_two_workers_of_which_one_is_killed_go_on_to_the_weights_of_one(place, one_device, victim):
    name = f"killed_{victim}"
    arguments = [*FLAGS, *flags(place, name, *SHARED, "--data_in_memory=false")]
    arguments.append("--checkpoint_steps=2")
    workers = [start("train.py", *arguments, env=env) for env in tf_config_environments()]
    try:
        while not any(int(step.stem[5:]) >= 14 for step in checkpoints(place / name)):
            assert [worker.poll() for worker in workers] == [None, None]
            time.sleep(0.01)
        workers[victim].send_signal(signal.SIGKILL)
        _, err = workers[1 - victim].communicate(timeout=120)
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    assert workers[1 - victim].returncode == 1, err
    assert "A worker of this training is gone" in err
    reached = max(int(step.stem[5:]) for step in checkpoints(place / name))
    assert reached < 5 * 12
    place_and_name = [f"--runs_dir={place}", f"--name={name}"]
    _, err = train_together(tf_config_environments(), *place_and_name, "--resume")[0]
    assert f"Going on after step {reached}." in err
    assert_nearly_same(one_device, place / name)


def checkpoints(directory):
    return (directory / "checkpoints" / "last").glob("step-*.index")


@pytest.mark.slow
@pytest.mark.faults
def test_workers_that_have_read_different_images_are_refused(place):
    shutil.copytree(place / "pets", place / "others")
    (place / "others" / "train" / "dog" / "5.jpg").unlink()
    arguments = [*FLAGS, *flags(place, "apart", *SHARED, "--data_in_memory=false")]
    folders = [place / "pets", place / "others"]
    workers = [
        start("train.py", *arguments, f"--dataset=folder:{folder}", env=env)
        for folder, env in zip(folders, tf_config_environments(), strict=True)
    ]
    try:
        for worker, count in zip(workers, (136, 135), strict=True):
            _, err = worker.communicate(timeout=120)
            assert worker.returncode == 2, err
            assert "The workers of this training have read different images" in err
            assert f"this one {count} of folder" in err
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    assert not (place / "apart").exists()
