"""In which precision a training computes: float32, or a shorter one where that is faster."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras
import tensorflow as tf

_POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
_CPU_INFO = Path("/proc/cpuinfo")
# What processors of the x86 family call their instructions for bfloat16.
_BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")
_TENSOR_CORES = (7, 0)  # NVIDIA's compute capability from which on a GPU has them


@dataclasses.dataclass(frozen=True)
class Precision:
    """A choice of precision.

    Args:
        policy: Keras' dtype policy: `"float32"`, `"mixed_bfloat16"` or `"mixed_float16"`.
        why: Why it was chosen, in words.

    Raises:
        ValueError: If there is no such policy, as in a record that was damaged.
    """

    policy: str
    why: str

    def __post_init__(self) -> None:
        if self.policy not in _POLICIES:
            raise ValueError(f"There is no policy {self.policy!r} here.")

    @property
    def bytes_of_a_number(self) -> int:
        """Of what a network keeps of a pass for the gradient."""
        return 4 if self.policy == "float32" else 2


def chosen_precision(mixed_precision: str) -> Precision:
    """Follows the setting `mixed_precision`, and decides where it is `"auto"`.

    Mixed is float16 on GPUs, which has fast units there, and bfloat16 on CPUs, which needs no loss
    scaling.

    Args:
        mixed_precision: `"true"`, `"false"`, or `"auto"`: mixed where this machine's processors
            have instructions for it.
    """
    gpus = tf.config.list_physical_devices("GPU")
    mixed = "mixed_float16" if gpus else "mixed_bfloat16"
    if mixed_precision != "auto":
        return Precision(mixed if mixed_precision == "true" else "float32", "it was asked for")
    fast, why = _gpus_are_fast(gpus) if gpus else _cpu_is_fast()
    return Precision(mixed if fast else "float32", why)


def configure_precision(precision: Precision) -> None:
    """Sets Keras' dtype policy."""
    keras.mixed_precision.set_global_policy(precision.policy)


def _gpus_are_fast(gpus: list[tf.config.PhysicalDevice]) -> tuple[bool, str]:
    for gpu in gpus:
        details = tf.config.experimental.get_device_details(gpu)
        if details.get("compute_capability", (0, 0)) < _TENSOR_CORES:
            name = details.get("device_name", gpu.name)
            return False, f"the GPU {name} is not known to have tensor cores"
    return True, "the GPUs have tensor cores" if len(gpus) > 1 else "the GPU has tensor cores"


def _cpu_is_fast() -> tuple[bool, str]:
    try:
        words = set(_CPU_INFO.read_text("utf-8", "replace").split())
    except OSError:
        return False, f"what this CPU can do is read from {_CPU_INFO}, which is not there"
    found = [name for name in _BFLOAT16_INSTRUCTIONS if name in words]
    if found:
        return True, f"the CPU has {found[0]}"
    return False, f"the CPU has none of {', '.join(_BFLOAT16_INSTRUCTIONS)}"
