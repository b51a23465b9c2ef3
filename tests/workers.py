"""Two processes that train together on this machine."""

import json
import socket

from command import start


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def tf_config_environments() -> list[dict[str, str]]:
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    return [
        {
            "TF_CONFIG": json.dumps(
                {"cluster": {"worker": workers}, "task": {"type": "worker", "index": i}}
            )
        }
        for i in range(2)
    ]


def slurm_environments() -> list[dict[str, str]]:
    return [
        {
            "SLURM_STEP_NUM_TASKS": "2",
            "SLURM_STEP_NODELIST": "localhost",
            "SLURM_STEP_TASKS_PER_NODE": "2",
            "SLURM_NTASKS": "2",
            "SLURM_PROCID": str(i),
        }
        for i in range(2)
    ]


def train_together(environments: list[dict[str, str]], *arguments: str) -> list[tuple[str, str]]:
    """Trains in one process for each environment, all with the same arguments, to the end.

    Returns what each wrote to standard output and standard error.
    """
    workers = [start("train.py", *arguments, env=env) for env in environments]
    try:
        outputs = [worker.communicate(timeout=300) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    return outputs
