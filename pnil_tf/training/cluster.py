"""What `TF_CONFIG` says of a cluster, read before TensorFlow waits for machines that are none."""

from __future__ import annotations

import json
import re

from pnil_tf.errors import UserError

_CHIEF, _WORKER = "chief", "worker"
_LAST_PORT = 65535
_HOST = re.compile(r"[^\s:\[\]]+|\[[0-9A-Fa-f:.]+(%\w+)?\]")  # a name, or an address of IPv6
_EXAMPLE = (
    '{"cluster": {"worker": ["one:2222", "two:2222"]}, "task": {"type": "worker", "index": 0}}'
)


def check_cluster(text: str) -> None:
    """Sees whether a text describes a cluster of workers, and which one this process is.

    Args:
        text: The content of `TF_CONFIG`. Without a cluster in it, this process works alone.

    Raises:
        UserError: If TensorFlow would fail by it, or wait for a worker that cannot come.
    """
    try:
        config = json.loads(text)
        if not isinstance(config, dict):
            raise ValueError("it is no JSON object")
        if config.get("cluster"):
            _check_task(_addresses(config["cluster"]), config.get("task"))
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"The environment variable TF_CONFIG describes no cluster: {error}. Found "
            f"{text[:300]!r}. It should read like {_EXAMPLE}; unset it to train on this machine "
            "alone."
        ) from error


def _addresses(cluster: object) -> dict[str, list[str]]:
    """The addresses of the jobs by name."""
    if not isinstance(cluster, dict) or not set(cluster) <= {_CHIEF, _WORKER}:
        raise ValueError(f"'cluster' must list the addresses of {_WORKER!r} and perhaps {_CHIEF!r}")
    for name, addresses in cluster.items():
        if not isinstance(addresses, list) or not addresses:
            raise ValueError(f"the addresses of {name!r} must be a list")
        for address in addresses:
            if not _is_address(address):
                raise ValueError(f"{address!r} is no address such as 'host:2222'")
    everyone = [address for addresses in cluster.values() for address in addresses]
    twice = sorted({address for address in everyone if everyone.count(address) > 1})
    if twice:
        raise ValueError(f"two workers have the address {twice[0]!r}")
    if len(cluster.get(_CHIEF, ())) > 1:
        raise ValueError("there can be one chief only")
    return cluster


def _is_address(address: object) -> bool:
    if not isinstance(address, str):
        return False
    host, _, port = address.rpartition(":")
    return (
        _HOST.fullmatch(host) is not None
        and port.isascii()
        and port.isdecimal()
        and len(port) <= len(str(_LAST_PORT))
        and 0 < int(port) <= _LAST_PORT
    )


def _check_task(cluster: dict[str, list[str]], task: object) -> None:
    if not isinstance(task, dict):
        raise ValueError("'task' must say which of the workers this process is")
    kind, index = task.get("type"), task.get("index")
    if not isinstance(kind, str) or kind not in cluster:
        raise ValueError(f"the type of 'task' must be one of {', '.join(cluster)}")
    # TensorFlow takes text for a number here, and job schedulers write it.
    if isinstance(index, str) and index.isascii() and index.isdecimal() and len(index) < 10:
        index = int(index)
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(cluster[kind]):
        raise ValueError(
            f"the index of 'task' must be from 0 to {len(cluster[kind]) - 1} for {kind!r}"
        )
