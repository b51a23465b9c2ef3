"""Devices: from settings and the environment to a `tf.distribute` strategy."""

from __future__ import annotations

import os
import shutil

import tensorflow as tf

from pnil_tf.errors import UserError
from pnil_tf.training.cluster import check_cluster
from pnil_tf.training.settings import DeviceSettings


def make_strategy(settings: DeviceSettings) -> tf.distribute.Strategy:
    """Returns the strategy for this process. Call it before TensorFlow has done anything else.

    Several workers (from `TF_CONFIG`, or a SLURM step of several tasks) make a
    `MultiWorkerMirroredStrategy`; several GPUs, or several logical CPU devices, a
    `MirroredStrategy`; otherwise TensorFlow's default strategy serves the one device.

    Raises:
        UserError: If the environment asks for what cannot be had.
    """
    _make_cpu_devices(settings.num_cpu_devices)
    if os.environ.get("TF_CONFIG"):
        check_cluster(os.environ["TF_CONFIG"])
        return tf.distribute.MultiWorkerMirroredStrategy(
            tf.distribute.cluster_resolver.TFConfigClusterResolver()
        )
    tasks = _slurm_tasks()
    if tasks > 1:
        # The resolver asks nvidia-smi for GPUs and makes a worker for each share of them. Where
        # there are none it is told of one for every task, and not to assign them.
        without = {"gpus_per_node": tasks, "gpus_per_task": 1, "auto_set_gpu": False}
        return tf.distribute.MultiWorkerMirroredStrategy(
            tf.distribute.cluster_resolver.SlurmClusterResolver(
                **({} if shutil.which("nvidia-smi") else without)
            )
        )
    if settings.num_cpu_devices > 1:
        devices = [f"CPU:{i}" for i in range(settings.num_cpu_devices)]
        return tf.distribute.MirroredStrategy(devices)
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def _slurm_tasks() -> int:
    text = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    try:
        return int(text)
    except ValueError as error:
        raise UserError(
            "The environment variable SLURM_STEP_NUM_TASKS must be the number of tasks of this job "
            f"step. Found {text!r}. Unset it to train on this machine alone."
        ) from error


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the run's files: the first worker, or the only one."""
    if _is_alone(strategy):
        return True
    resolver = strategy.cluster_resolver
    return resolver.task_type in (None, "chief") or (
        resolver.task_type == "worker"
        and resolver.task_id == 0
        and "chief" not in resolver.cluster_spec().jobs
    )


def machines(strategy: tf.distribute.Strategy) -> int:
    """How many processes share the work, each with a memory of its own."""
    if _is_alone(strategy):
        return 1
    return sum(map(len, strategy.cluster_resolver.cluster_spec().as_dict().values()))


def same_on_all_workers(strategy: tf.distribute.Strategy, digest: str) -> bool:
    """Whether every worker calls this with the same digest; each of them has to call it.

    Args:
        strategy: The strategy of the training; without several workers the answer is yes.
        digest: Hexadecimal digits, of which the first 15 are compared.
    """
    if _is_alone(strategy):
        return True
    number = int(digest[:15], 16)
    own = strategy.run(lambda: tf.constant([number], tf.int64))
    return len(set(strategy.gather(own, axis=0).numpy().tolist())) == 1


def _is_alone(strategy: tf.distribute.Strategy) -> bool:
    resolver = strategy.cluster_resolver
    return resolver is None or not resolver.cluster_spec()


def _make_cpu_devices(count: int) -> None:
    if count == 1:
        return
    cpu = tf.config.list_physical_devices("CPU")[0]
    wanted = [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
    try:
        tf.config.set_logical_device_configuration(cpu, wanted)
    except RuntimeError as error:
        if len(tf.config.list_logical_devices("CPU")) != count:
            raise UserError(
                f"Logical CPU devices must be made before TensorFlow starts. Received: {count} "
                "devices in a process where it runs already. Start a new process."
            ) from error
