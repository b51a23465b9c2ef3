"""pnil_tf: image classifiers made robust fast, and an honest word on how robust they are.

The public names are those of `__all__`. They are imported when first used: `import pnil_tf`
alone imports no TensorFlow.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "AdversarialModel": "pnil_tf.training.model",
    "EOT": "pnil_tf.attacks.eot",
    "OneCycle": "pnil_tf.training.schedules",
    "OverfittingGuard": "pnil_tf.training.guard",
    "PNILLayer": "pnil_tf.layers",
    "StepAttack": "pnil_tf.attacks.one_step",
    "Triangular": "pnil_tf.training.schedules",
    "UserError": "pnil_tf.errors",
    "add_pnil": "pnil_tf.surgery",
    "attack_settings": "pnil_tf.attacks.settings",
    "build_attack": "pnil_tf.attacks.registry",
    "export_onnx": "pnil_tf.serving.onnx_model",
    "export_saved_model": "pnil_tf.serving.saved_model",
    "lr_range_test": "pnil_tf.training.lr_range",
    "noise_off": "pnil_tf.rng",
    "noise_scope": "pnil_tf.rng",
    "step_attack": "pnil_tf.attacks.one_step",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pnil_tf' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
